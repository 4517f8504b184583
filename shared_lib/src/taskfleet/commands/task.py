"""``poe task``: show everything about one task."""

import json
from collections.abc import Sequence
from datetime import datetime

from taskfleet.api.looking import task
from taskfleet.ledger.queries import AttemptRecord, TaskRecord
from taskfleet.tasks import JSON, State
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.text import duration

EXAMPLES = """\
  poe task addition-task-000001
  poe task addition-task-000001 --json"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("task", "Its data and result are included.", EXAMPLES, operands="ID")
    parser.add_argument("task_id", metavar="ID", help="ID of the task")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    record = task(configure(arguments), arguments.task_id)
    print(json.dumps(_to_json(record), ensure_ascii=False) if arguments.json else _to_text(record))
    return 0


def _to_text(record: TaskRecord) -> str:
    state = record.state.word + (f" ({record.kind.word})" if record.kind else "")
    if record.state is State.RUNNING:
        state += f" on {record.hostname}"
    if record.state is State.PENDING and record.available_at:
        state += f", due at {datetime.fromtimestamp(record.available_at):%H:%M:%S}"
    lines = [f"Task {record.task_id} (row {record.seq:,} of the job): {state}", f"Data: {record.data}"]
    for attempt in record.attempts:
        lines += ["", *_attempt_lines(attempt)]
    return "\n".join(lines)


def _attempt_lines(attempt: AttemptRecord) -> list[str]:
    started = datetime.fromtimestamp(attempt.started_at)
    facts = [f"started {started:%Y-%m-%d %H:%M:%S}", f"on {attempt.hostname}", f"worker {attempt.worker_id}"]
    if attempt.exit_code is not None:
        facts.append(f"exit code {attempt.exit_code}")
    if attempt.peak_memory_mib is not None:
        facts.append(f"peak memory {attempt.peak_memory_mib:,.0f} MiB")
    lines = [
        f"Attempt {attempt.number}: {attempt.outcome.word} after {duration(attempt.elapsed_seconds)} ({', '.join(facts)})"
    ]
    for title, content in (("Result", attempt.result), ("Error", attempt.error), ("Output", attempt.output)):
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
            "result": None if attempt.result is None else json.loads(attempt.result),
            "error": attempt.error,
            "output": attempt.output,
            "exit_code": attempt.exit_code,
            "peak_memory_mib": attempt.peak_memory_mib,
        }
        for attempt in record.attempts
    ]
    return {
        "task_id": record.task_id,
        "data": json.loads(record.data),
        "state": record.state.word,
        "kind": None if record.kind is None else record.kind.word,
        "attempts": attempts,
    }
