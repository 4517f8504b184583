"""``poe tasks``: list tasks."""

import json
from collections.abc import Sequence

from taskfleet.commands.arguments import make_parser, open_job
from taskfleet.ledger import counters, inquiry
from taskfleet.tasks import FAILURE_KINDS, State
from taskfleet.text import columns

EXAMPLES = """\
  poe tasks --state failed
  poe tasks --state failed --kind timeout --limit 0
  poe tasks --state running --json"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "tasks", "List tasks in the order of the table, with the reason of those that failed.", EXAMPLES
    )
    parser.add_argument("--state", choices=[state.word for state in State], help="only tasks in this state")
    parser.add_argument("--kind", choices=[kind.word for kind in FAILURE_KINDS], help="only tasks that failed this way")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many; 0 for all (default 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args(argv)
    if arguments.limit < 0:
        parser.error("--limit takes a whole number from 0 on")
    kind = next((kind for kind in FAILURE_KINDS if kind.word == arguments.kind), None)
    state = next((state for state in State if state.word == arguments.state), State.FAILED if kind else None)
    database = open_job(arguments, read_only=True)
    lines = inquiry.list_tasks(database, state=state, kind=kind, limit=arguments.limit or (1 << 62))
    if arguments.json:
        for line in lines:
            record = {"task_id": line.task_id, "state": line.state.word, "kind": line.kind and line.kind.word}
            print(json.dumps(record | {"attempts": line.attempts, "reason": line.reason}, ensure_ascii=False))
        return 0
    rows = [
        (
            line.task_id,
            line.state.word + (f" ({line.kind.word})" if line.kind else ""),
            str(line.attempts),
            line.reason or "",
        )
        for line in lines
    ]
    if not rows:
        print(f"No {state.word if state else ''} tasks.".replace("  ", " "))
        return 0
    print(columns(rows, ("task", "state", "attempts", "reason")))
    counts = counters.by_state(database)
    total = sum(counts.values()) if state is None else counts[state]
    if kind is not None:
        total = counters.by_failure_kind(database)[kind]
    if total > len(rows):
        print(f"… and {total - len(rows):,} more; --limit 0 lists all.")
    if state is State.FAILED:
        print("\nNext: poe task ID shows one whole; poe retry --failed puts them back.")
    return 0
