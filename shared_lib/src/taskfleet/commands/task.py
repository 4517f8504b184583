"""``poe task``: show everything about one task."""

import json
from collections.abc import Sequence

from taskfleet.api.looking import task
from taskfleet.ledger.queries import AttemptRecord, TaskRecord
from taskfleet.ledger.stored_json import read_data, read_json
from taskfleet.references.plain import plain
from taskfleet.tasks import JSON, State
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.text import clock, counted, duration, harmless, harmless_json, one_line

#: Characters of a line of data, results or output; --json has all.
LONGEST_LINE = 10_000

EXAMPLES = """\
  poe task addition-task-000001
  poe task addition-task-000001 --json"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("task", "The output includes its data and its result.", EXAMPLES, operands="ID")
    parser.add_argument("task_id", metavar="ID", help="ID of the task")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    record = task(configure(arguments), arguments.task_id)
    print(harmless_json(_to_json(record)) if arguments.json else harmless(_to_text(record), longest_line=LONGEST_LINE))
    return 0


def _to_text(record: TaskRecord) -> str:
    state = record.state.word + (f" ({record.kind.word})" if record.kind else "")
    if record.state is State.RUNNING:
        state += f" on {one_line(record.hostname or '?')}"
    if record.state is State.PENDING and record.available_at:
        state += f", due at {clock(record.available_at, '%H:%M:%S')}"
    lines = [f"Task {one_line(record.task_id)} (row {record.seq:,} of the job): {state}", *_graph_lines(record)]
    for attempt in record.attempts:
        lines += ["", *_attempt_lines(attempt)]
    return "\n".join(lines)


def _graph_lines(record: TaskRecord) -> list[str]:
    """Return the arguments of a task, and how it depends on others."""
    graph = record.graph
    if not graph.function:
        return [f"Data: {record.data}"]
    data = read_data(record.data, record.task_id)
    lines = [f"Function: {one_line(graph.function)}"]
    lines += [f"  {name} = {_shown(value)}" for name, value in data.items()]
    if graph.parents:
        waits = f", {graph.missing:,} of them not done" if graph.missing else ""
        lines.append(f"Depends on: {counted(graph.parents, 'task')}{waits}")
    if graph.children:
        lines.append(f"Needed by: {counted(graph.children, 'task')}")
    if graph.cause is not None:
        lines.append(f"Cause: {graph.cause.sentence}")
    return lines


def _shown(value: JSON) -> str:
    """Return an argument; the result of another task as that task's id."""
    if isinstance(value, dict) and value.keys() == {"$task"}:
        return f"result of {value['$task']}"
    return json.dumps(plain(value), ensure_ascii=False)


def _attempt_lines(attempt: AttemptRecord) -> list[str]:
    facts = [f"started {clock(attempt.started_at)}", f"on {one_line(attempt.hostname)}", f"worker {attempt.worker_id}"]
    if attempt.exit_code is not None:
        facts.append(f"exit code {attempt.exit_code}")
    if attempt.peak_memory_mib is not None:
        facts.append(f"peak memory {attempt.peak_memory_mib:,.0f} MiB")
    if attempt.code_version is not None:
        facts.append(f"code version {attempt.code_version}")
    if attempt.packages is not None:
        python = attempt.packages.get("python", "?")
        facts.append(f"Python {one_line(python)} with {counted(len(attempt.packages) - 1, 'package')}")
    lines = [
        f"Attempt {attempt.number}: {attempt.outcome.word} after {duration(attempt.elapsed_seconds)} ({', '.join(facts)})"
    ]
    printed = [("Output", attempt.output)]
    if attempt.stderr is not None:
        printed = [("Standard output", attempt.stdout or None), ("Standard error", attempt.stderr)]
    for title, content in (("Result", attempt.result), ("Error", attempt.error), *printed):
        if content is not None:
            body = content.rstrip("\n")
            lines += (
                [f"  {title}: {body}"]
                if "\n" not in body
                else [f"  {title}:", *(f"    {line}" for line in body.splitlines())]
            )
    return lines


def _to_json(record: TaskRecord) -> dict[str, JSON]:
    attempts: list[JSON] = [
        {
            "attempt": attempt.number,
            "outcome": attempt.outcome.word,
            "worker_id": attempt.worker_id,
            "hostname": attempt.hostname,
            "started_at": attempt.started_at,
            "elapsed_seconds": attempt.elapsed_seconds,
            "result": None
            if attempt.result is None
            else read_json(attempt.result, f"result of task {record.task_id!r}"),
            "error": attempt.error,
            "output": attempt.output,
            "stdout": attempt.stdout,
            "stderr": attempt.stderr,
            "exit_code": attempt.exit_code,
            "peak_memory_mib": attempt.peak_memory_mib,
            "code_version": attempt.code_version,
            "packages": None if attempt.packages is None else dict(attempt.packages),
        }
        for attempt in record.attempts
    ]
    return {
        "task_id": record.task_id,
        "data": read_data(record.data, record.task_id),
        "state": record.state.word,
        "kind": None if record.kind is None else record.kind.word,
        "attempts": attempts,
        **_graph_json(record),
    }


def _graph_json(record: TaskRecord) -> dict[str, JSON]:
    graph = record.graph
    if not graph.function:
        return {}
    return {
        "function": graph.function,
        "parents": graph.parents,
        "missing": graph.missing,
        "children": graph.children,
        "cause": None if graph.cause is None else {"task_id": graph.cause.task_id, "reason": graph.cause.reason},
    }
