"""``poe monitor``: take what workers tell into the ledger."""

import sys
import time
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.commands.guard import INTERRUPTED
from taskfleet.errors import UsageError
from taskfleet.ledger.database import open_ledger
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import JobQueues
from taskfleet.watch.monitor import Monitor
from taskfleet.watch.status import gather
from taskfleet.watch.text import final_report

EXAMPLES = """\
  poe monitor                                       until all tasks are done
  poe monitor --no-auto-complete                    until Ctrl-C
  poe monitor --print-events | jq .task_id          each event, as a line of JSON
  poe monitor --event-file events.jsonl             keep them; a missing file is begun with what the ledger has"""


def run(argv: Sequence[str]) -> int:
    """Run the command; 0 when all tasks are done."""
    parser = make_parser(
        "monitor",
        "Take what workers elsewhere tell into the ledger, and show how the job gets on. It may be stopped at any time and started again, "
        "also on another machine with the ledger: nothing is lost and nothing counts twice.",
        EXAMPLES,
        ("job", "watch"),
    )
    parser.add_argument("--no-auto-complete", action="store_true", help="go on when all tasks are done")
    parser.add_argument("--print-events", action="store_true", help="print each event as a line of JSON")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    settings = configuration.settings
    if not is_remote(settings.queue_url):
        raise UsageError(
            "The tasks of this job wait in the ledger itself (QUEUE_URL=ledger), where workers write what they do: poe status --watch"
        )
    database = open_ledger(configuration.ledger_path, job_id=settings.job_id, project=configuration.project)
    with JobQueues(configuration) as queues:
        queues.require()
        monitor = Monitor(database, configuration, queues.events, prints=arguments.print_events)
        try:
            monitor.run(auto_complete=not arguments.no_auto_complete)
        except KeyboardInterrupt:
            print(
                "\nStopped. What was not taken yet waits in the queue.\n\nNext: poe monitor   (to go on)",
                file=sys.stderr,
            )
            return INTERRUPTED
        finally:
            monitor.close()
    now = time.time()
    print(
        f"{final_report(gather(database, now), now)}\n\nNext: poe results -o results.feather, then poe delete_queue",
        file=sys.stderr,
    )
    database.close()
    return 0
