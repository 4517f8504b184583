"""The progress of sending tasks to a service queue."""

import sys
from types import TracebackType
from typing import Self

from taskfleet.processes.identity import pid_of
from taskfleet.queues.job import SendingProgress
from taskfleet.watch.bar import Bar


class SendingDisplay(SendingProgress):
    """Shows a bar on a terminal, and a line if another process has to finish first; in a ``with`` statement."""

    def __init__(self) -> None:
        self._bar = Bar("Sending", "task")

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        self._bar.close()

    def sent(self, tasks: int, total: int) -> None:
        """See ``SendingProgress.sent``."""
        self._bar.show(tasks, total)

    def waits_for(self, process: str) -> None:
        """See ``SendingProgress.waits_for``."""
        print(f"Waiting for another process to send its tasks (process {pid_of(process)}).", file=sys.stderr)
