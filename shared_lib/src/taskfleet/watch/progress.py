"""The progress of a job: a bar with the time left on a terminal, a plain line now and then elsewhere."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import IO, Any

from taskfleet.ledger.database import Database
from taskfleet.tasks import Finished, FinishReport, Lease, Outcome
from taskfleet.text import duration, harmless, one_line
from taskfleet.watch import text
from taskfleet.watch.status import gather

BAR_SECONDS = 0.2


class Progress:
    """Shows the progress of the whole job, by the ledger, whichever workers run it."""

    def __init__(
        self,
        database: Database | None,
        *,
        every_seconds: float,
        verbose: bool,
        stream: IO[str] | None = None,
        shows_progress: bool = True,
    ) -> None:
        self._database = database
        self._stream = stream or sys.stderr
        self._verbose = verbose
        self._bar: Any = None
        self._is_terminal = self._stream.isatty()
        self._every_seconds = BAR_SECONDS if self._is_terminal else every_seconds
        self._shows_progress = shows_progress
        """Whether it is this process that shows it; otherwise only messages are printed."""
        self._shown_at: float | None = None

    def recorded(self, leases: Sequence[Lease], finished: Sequence[Finished], report: FinishReport) -> None:
        """Print a line for each attempt with VERBOSE."""
        if not self._verbose:
            return
        for lease, outcome in zip(leases, finished, strict=True):
            word = "duplicate" if outcome.key in report.duplicates else Outcome(outcome.outcome).word
            line = f"{lease.task_id} attempt {outcome.attempt}: {word} after {duration(outcome.elapsed_seconds)}"
            if outcome.error:
                line += f" ({one_line(outcome.error.partition(chr(10))[0])})"
            if outcome.key in report.retry_delay_seconds:
                line += f"; retry in {duration(report.retry_delay_seconds[outcome.key])}"
            self.say(line)

    def tick(self, now: float) -> None:
        """Show the progress, if it is time to."""
        if not self._shows_progress:
            return
        if self._shown_at is None:
            self._shown_at = now
            if self._is_terminal:
                self._show_bar(now)
        elif now - self._shown_at >= self._every_seconds or now < self._shown_at:
            self._shown_at = now
            if self._is_terminal:
                self._show_bar(now)
            else:
                self.say(self._line(now))

    def say(self, line: str) -> None:
        """Print a line without disturbing the bar."""
        line = harmless(line)
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            stamp = "" if self._is_terminal else f"{datetime.now():%H:%M:%S}  "
            print(f"{stamp}{line}", file=self._stream, flush=True)

    def termination_noticed(self, now: float) -> None:
        """Do nothing; the supervisor prints it."""

    def close(self, now: float) -> None:
        """Show the last state of the bar and leave it standing."""
        if self._bar is not None:
            self._show_bar(now)
            self._bar.close()
            self._bar = None

    def _job(self) -> Database:
        assert self._database is not None
        return self._database

    def _line(self, now: float) -> str:
        return text.progress_line(gather(self._job(), now))

    def _show_bar(self, now: float) -> None:
        status = gather(self._job(), now)
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=f"{text.percentage(status):3d}%",
                total=status.total,
                initial=status.ended,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{desc}|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]",  # tqdm knows no durations for a time left
            )
        self._bar.total = status.total
        self._bar.set_description_str(f"{text.percentage(status):3d}%", refresh=False)
        self._bar.set_postfix_str(", ".join(text.progress_figures(status)), refresh=False)
        self._bar.update(status.ended - self._bar.n)
        self._bar.refresh()
