"""What became of attempts, as a slot collects it for its supervisor."""

from collections.abc import Iterable

from taskfleet.tasks import AttemptKey, Finished
from taskfleet.worker.messages import Done


class FinishedBatch:
    """Attempts that have ended since the supervisor was told last."""

    def __init__(self) -> None:
        self._finished: list[Finished] = []
        self._interrupted: list[AttemptKey] = []
        self._began_at = 0.0

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._finished)

    def add(self, finished: Iterable[Finished], interrupted: Iterable[AttemptKey], now: float) -> None:
        """Add some.

        Args:
            finished: What became of them.
            interrupted: Those of them that a signal ended which asks for the end.
            now: On the monotonic clock.
        """
        if not self._finished:
            self._began_at = now
        self._finished += finished
        self._interrupted += interrupted

    @property
    def began_at(self) -> float:
        """When the first of them was added, on the monotonic clock."""
        return self._began_at

    @property
    def lacks_output(self) -> bool:
        """Whether nothing is known that the last of them has printed."""
        return bool(self._finished) and self._finished[-1].output is None

    def add_output(self, output: str | None) -> None:
        """Enter what the last of them has printed."""
        self._finished[-1] = self._finished[-1]._replace(output=output)

    def take(self) -> Done:
        """Return all of them as a message, and begin anew."""
        done = Done(finished=self._finished, interrupted=self._interrupted)
        self._finished, self._interrupted = [], []
        return done
