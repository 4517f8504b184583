"""``poe show_queue``: show what is in the queue."""

import json
from collections.abc import Mapping, Sequence

from taskfleet.api.contents import contents
from taskfleet.tasks import JSON
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.text import harmless

EXAMPLES = """\
  poe show_queue
  poe show_queue --json | jq .ledger.pending"""

DETAILS = "The counts in the ledger are exact. A service queue is queried for its counts and a sample message, which is returned to it."


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("show_queue", DETAILS, EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    found = contents(configure(arguments))
    print(json.dumps(found) if arguments.json else harmless(_text(found)))
    return 0


def _text(found: Mapping[str, JSON]) -> str:
    lines = [f"Job {found['job_id']}, queue {found['queue_url']}"]
    of_managers = found.get("managers")
    assert of_managers is None or isinstance(of_managers, dict)
    for sizes, title in (
        (found.get("ledger"), "tasks in the ledger (exact)"),
        (found.get("tasks"), "task messages in the service queue"),
        *((sizes, f"task messages in the queue of manager {name}") for name, sizes in (of_managers or {}).items()),
        (found.get("events"), "event messages in the service queue"),
    ):
        if not isinstance(sizes, dict):
            continue
        is_exact = sizes.get("is_exact", True)
        figures = [f"{'unknown' if n is None else f'{n:,}'} {word}" for word, n in sizes.items() if word != "is_exact"]
        lines += ["", f"{title}{'' if is_exact else ' (approximate)'}:", f"  {', '.join(figures)}"]
    sample = found.get("sample")
    empty = "No message is available." if "tasks" in found else "No task is pending."
    lines += ["", "Sample:" if sample else empty]
    if isinstance(sample, dict) and "error" in sample:
        lines.append(f"  {sample['error']}")
    elif isinstance(sample, dict):
        if "deliveries" in sample:
            lines.append(
                f"  {sample['tasks_in_message']} tasks in the message, delivered {sample['deliveries'] or '?'} times"
            )
        tasks = sample["tasks"]
        assert isinstance(tasks, list)
        lines += [f"  {json.dumps(task)[:200]}" for task in tasks]
    return "\n".join(lines)
