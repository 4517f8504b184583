"""The progress of a worker without a ledger: what it has done itself."""

from collections import Counter
from collections.abc import Sequence
from typing import IO, Any

from taskfleet.tasks import Finished, FinishReport, Lease, Outcome
from taskfleet.text import counted, duration, rate
from taskfleet.watch.progress import Progress


class OwnProgress(Progress):
    """Counts the attempts of one worker, and shows them as ``Progress`` does a job's."""

    def __init__(self, *, every_seconds: float, verbose: bool, now: float, stream: IO[str] | None = None) -> None:
        super().__init__(None, every_seconds=every_seconds, verbose=verbose, stream=stream)
        self._began_at = now
        self._counts: Counter[str] = Counter()
        self._seconds = 0.0

    def recorded(self, leases: Sequence[Lease], finished: Sequence[Finished], report: FinishReport) -> None:
        """Count attempts, and print a line for each with VERBOSE."""
        for outcome in finished:
            if outcome.outcome == Outcome.SUCCEEDED:
                self._counts["succeeded"] += 1
                self._seconds += outcome.elapsed_seconds
            elif outcome.outcome == Outcome.KILLED:
                self._counts["killed"] += 1
            elif outcome.outcome != Outcome.INTERRUPTED:
                self._counts["to be retried" if outcome.key in report.retry_delay_seconds else "failed"] += 1
        super().recorded(leases, finished, report)

    def report(self, now: float) -> str:
        """Return the totals as one line."""
        return f"{self._line(now)} in {duration(now - self._began_at)}"

    def _line(self, now: float) -> str:
        parts = [f"{counted(self._counts['succeeded'], 'task')} done here"]
        parts += [
            f"{self._counts[word]:,} {word}" for word in ("failed", "to be retried", "killed") if self._counts[word]
        ]
        if self._counts["succeeded"]:
            parts.append(rate(self._counts["succeeded"] / max(now - self._began_at, 1e-3)))
            parts.append(f"{duration(self._seconds / self._counts['succeeded'])} each")
        return ", ".join(parts)

    def _show_bar(self, now: float) -> None:  # noqa: ARG002
        if self._bar is None:
            from tqdm import tqdm

            bar: Any = tqdm(unit="task", file=self._stream, dynamic_ncols=True, smoothing=0.1)
            self._bar = bar
        self._bar.set_postfix(failed=self._counts["failed"], refresh=False)
        self._bar.update(self._counts["succeeded"] + self._counts["failed"] - self._bar.n)
        self._bar.refresh()
