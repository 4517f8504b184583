"""What happens to tasks that were done by other code than the script has now."""

import sys
import time
from pathlib import Path
from typing import Any

from taskfleet.code_versions.describing import changes, describe_code
from taskfleet.ledger import code, repair
from taskfleet.ledger.code import OtherCode
from taskfleet.ledger.database import Database
from taskfleet.text import counted, duration

_QUESTION = "Run them again (r), only those that failed (f), or keep all (k)? "
_ANSWERS = {"r": "rerun", "f": "failed", "k": "keep"}


def check_code(
    database: Database,
    function_id: int,
    function: Any,
    *,
    module: str,
    version: str | None,
    project: Path,
    policy: str,
) -> None:
    """Enter the code of a function, and report tasks that other code has done.

    Args:
        database: The job's ledger.
        function_id: The number of the function.
        function: The function.
        module: The module by which workers import it.
        version: The version that its app declares.
        project: The project's folder.
        policy: The setting ON_CHANGE.

    Raises:
        FunctionError: The code cannot be described.
    """
    if version:
        code_hash, parts, source = f"version {version}", {}, ""
    else:
        described = describe_code(function, project)
        code_hash, parts = described.digest, dict(described.parts)
        source = "\n\n".join(described.sources.values())
    others = code.done_by_other_code(database, function_id, code_hash)
    code.register_version(database, function_id, code_hash, parts=parts, source=source, now=time.time())
    if not others:
        return
    name = function.__qualname__
    text = _describe(name, others, parts, module)
    if policy == "ask":
        policy = _ask(text)
    seqs = [seq for other in others for seq in other.seqs]
    done = []
    if policy == "rerun":
        n = repair.rerun(database, seqs)
        done.append(f"{counted(n, 'task')} {'is' if n == 1 else 'are'} run again.")
    else:
        done.append("Their results are kept (ON_CHANGE=rerun runs them again).")
    if policy != "keep":
        failed = code.failed_tasks(database, function_id)
        n = repair.retry(database, ids=failed)
        if n:
            done.append(f"{counted(n, 'failed task')} of {name} {'is' if n == 1 else 'are'} run again.")
    print(f"{text} {' '.join(done)}", file=sys.stderr)


def _describe(name: str, others: list[OtherCode], parts: dict[str, str], module: str) -> str:
    n = sum(len(other.seqs) for other in others)
    seconds = sum(other.seconds for other in others)
    changed: dict[str, None] = {}
    for other in others:
        changed.update(dict.fromkeys(changes(other.parts, parts, module=module) if other.parts and parts else ()))
    what = f"; {', '.join(changed)}" if changed else ""
    return f"{name}: {counted(n, 'task')} done by other code{what}; {duration(seconds)} of work."


def _ask(text: str) -> str:
    """Ask the user on a terminal; anywhere else, keep results and run failed tasks again."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return "failed"
    while True:
        print(f"{text}\n{_QUESTION}", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:  # the terminal is gone
            return "failed"
        if line.strip().lower()[:1] in _ANSWERS:
            return _ANSWERS[line.strip().lower()[:1]]
