"""The progress of an insertion on a terminal."""

import sys
from types import TracebackType
from typing import Self

from taskfleet.processes.identity import pid_of
from taskfleet.watch.bar import Bar


class InsertingDisplay:
    """Shows the rows read so far and the time left, in a ``with`` statement."""

    def __init__(self) -> None:
        self._bar = Bar("Inserting", "row")

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        self._bar.close()

    def read(self, rows: int, total: int | None) -> None:
        """Show that this many rows were read, of a total if that is known."""
        self._bar.show(rows, total)

    def waits_for(self, process: str) -> None:
        """Print that another process inserts into the same job and has to finish first."""
        print(f"Waiting for another insertion into this job to finish (process {pid_of(process)}).", file=sys.stderr)
