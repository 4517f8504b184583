"""Collect the finished attempts of a slot for its supervisor."""

from collections.abc import Iterable

from taskfleet.tasks import AttemptKey, Finished
from taskfleet.worker.messages import Done


class FinishedBatch:
    """The attempts that have finished since the last message to the supervisor."""

    def __init__(self) -> None:
        self._finished: list[Finished] = []
        self._interrupted: list[AttemptKey] = []
        self._began_at = 0.0

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._finished)

    def add(self, finished: Iterable[Finished], interrupted: Iterable[AttemptKey], now: float) -> None:
        """Add finished attempts.

        Args:
            finished: The attempts.
            interrupted: The keys of those that a stop signal ended.
            now: Monotonic time.
        """
        if not self._finished:
            self._began_at = now
        self._finished += finished
        self._interrupted += interrupted

    @property
    def began_at(self) -> float:
        """When the first of them was added, in monotonic time."""
        return self._began_at

    @property
    def lacks_output(self) -> bool:
        """Whether the last of them has no output yet."""
        return bool(self._finished) and self._finished[-1].output is None

    def add_output(self, output: str | None) -> None:
        """Set the output of the last of them."""
        self._finished[-1] = self._finished[-1]._replace(output=output)

    def take(self) -> Done:
        """Return all of them as a message, and clear the batch."""
        done = Done(finished=self._finished, interrupted=self._interrupted)
        self._finished, self._interrupted = [], []
        return done
