"""``poe tasks``: list tasks."""

from collections.abc import Sequence

from taskfleet.api.looking import tasks
from taskfleet.tasks import FAILURE_KINDS, State
from taskfleet.terminal.arguments import configure, make_parser, whole_number
from taskfleet.terminal.hints import next_steps
from taskfleet.text import columns, harmless_json

EXAMPLES = """\
  poe tasks --state failed
  poe tasks --state failed --kind timeout --limit 0
  poe tasks --state running --json"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("tasks", "Tasks are in table order, failed ones with the reason.", EXAMPLES)
    parser.add_argument("--state", choices=[state.word for state in State], help="only tasks in this state")
    parser.add_argument(
        "--kind", choices=[kind.word for kind in FAILURE_KINDS], help="only tasks with this kind of failure"
    )
    parser.add_argument(
        "--limit", type=whole_number(0), default=100, metavar="N", help="list at most N tasks; 0: all (default 100)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args(argv)
    kind = next((kind for kind in FAILURE_KINDS if kind.word == arguments.kind), None)
    state = next((state for state in State if state.word == arguments.state), State.FAILED if kind else None)
    lines, total = tasks(configure(arguments), state=state, kind=kind, limit=arguments.limit or None)
    if arguments.json:
        for line in lines:
            record = {"task_id": line.task_id, "state": line.state.word, "kind": line.kind and line.kind.word}
            print(harmless_json(record | {"attempts": line.attempts, "reason": line.reason}))
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
    if total > len(rows):
        print(f"… and {total - len(rows):,} more; --limit 0 lists all.")
    if state is State.FAILED:
        steps = next_steps(
            ("task ID", "shows the details of one task"), ("retry --failed", "puts all of them back into the queue")
        )
        print(f"\n{steps}")
    return 0
