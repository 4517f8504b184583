"""Print what tasks print, when they have ended."""

import sys
from collections.abc import Sequence

from taskfleet.tasks import Finished, FinishReport, Lease, Outcome
from taskfleet.text import harmless
from taskfleet.worker.hooks import Hooks


class Echo(Hooks):
    """Prints the output of each task to standard output, and the error of a failed one to standard error."""

    def recorded(self, leases: Sequence[Lease], finished: Sequence[Finished], report: FinishReport) -> None:
        """See ``Observer.recorded``."""
        for lease, outcome in zip(leases, finished, strict=True):
            if outcome.output:
                print(harmless(outcome.output), end="" if outcome.output.endswith("\n") else "\n", flush=True)
            if outcome.error and outcome.outcome != Outcome.INTERRUPTED:
                follows = " (it is retried)" if outcome.key in report.retry_delay_seconds else ""
                print(harmless(f"{lease.task_id}{follows}: {outcome.error.rstrip()}"), file=sys.stderr, flush=True)
        super().recorded(leases, finished, report)
