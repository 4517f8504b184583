"""The progress of sending tasks to a service queue."""

from taskfleet.processes.identity import pid_of
from taskfleet.queues.job import SendingProgress
from taskfleet.watch.bar import Bar, say


class SendingDisplay(Bar, SendingProgress):
    """Shows a bar on a terminal, and a line if another process has to finish first."""

    def __init__(self) -> None:
        super().__init__("Sending", "task")

    def sent(self, tasks: int, total: int) -> None:
        """See ``SendingProgress.sent``."""
        self.show(tasks, total)

    def waits_for(self, process: str) -> None:
        """See ``SendingProgress.waits_for``."""
        say(f"Waiting for another process to send its tasks (process {pid_of(process)}).")

    def say(self, text: str) -> None:
        """See ``SendingProgress.say``."""
        say(text)
