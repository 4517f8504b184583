"""``poe monitor``: record the events reported by remote workers."""

import sys
import time
from collections.abc import Mapping, Sequence

from taskfleet.api.monitoring import monitor
from taskfleet.tasks import JSON
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.guard import INTERRUPTED
from taskfleet.terminal.hints import next_steps
from taskfleet.text import harmless_json
from taskfleet.watch.text import final_report

EXAMPLES = """\
  poe monitor                                       until all tasks are done
  poe monitor --no-auto-complete                    until Ctrl-C
  poe monitor --print-events | jq .task_id          one JSON object per event
  poe monitor --event-file events.jsonl             write them to a file; a new file starts with the events in the ledger"""

DETAILS = (
    "The events are written to the ledger, and the job's progress is shown. The monitor can be stopped and restarted at any time, also "
    "on another computer that has the ledger: no event is lost or counted twice."
)


def run(argv: Sequence[str]) -> int:
    """Run the command; 0 when all tasks are done."""
    parser = make_parser("monitor", DETAILS, EXAMPLES)
    parser.add_argument("--no-auto-complete", action="store_true", help="keep running when all tasks are done")
    parser.add_argument("--print-events", action="store_true", help="print each event as one JSON object per line")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    try:
        status = monitor(
            configuration,
            auto_complete=not arguments.no_auto_complete,
            on_event=_print_event if arguments.print_events else None,
        )
    except KeyboardInterrupt:
        print(
            f"\nStopped. Events that were not recorded yet stay in the queue.\n\n{next_steps(('monitor', 'to continue'))}",
            file=sys.stderr,
        )
        return INTERRUPTED
    report = final_report(status, time.time())
    steps = next_steps("results -o results.feather", ("delete_queue", "deletes the job"))
    print(f"{report}\n\n{steps}", file=sys.stderr)
    return 0


def _print_event(event: Mapping[str, JSON]) -> None:
    print(harmless_json(event), flush=True)
