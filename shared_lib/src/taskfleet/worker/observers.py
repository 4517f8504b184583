"""Interfaces of objects that display or log a worker's progress."""

from collections.abc import Sequence
from typing import Protocol

from taskfleet.tasks import Finished, FinishReport, Lease


class Observer(Protocol):
    """An object that is notified of a worker's progress; the work does not depend on it."""

    def recorded(self, leases: Sequence[Lease], finished: Sequence[Finished], report: FinishReport) -> None:
        """Attempts were recorded; ``leases[i]`` belongs to ``finished[i]``."""

    def tick(self, now: float) -> None:
        """Called in every iteration of the supervisor's loop."""

    def say(self, text: str) -> None:
        """Show a message to the user."""

    def termination_noticed(self, now: float) -> None:
        """A termination notice for the machine was received."""


class Display(Observer, Protocol):
    """An observer that shows the progress to the user."""

    def close(self, now: float) -> None:
        """Show the final state, and stop updating."""


class Observers:
    """Forward notifications to several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def recorded(self, leases: Sequence[Lease], finished: Sequence[Finished], report: FinishReport) -> None:
        """See ``Observer.recorded``."""
        for observer in self._observers:
            observer.recorded(leases, finished, report)

    def tick(self, now: float) -> None:
        """See ``Observer.tick``."""
        for observer in self._observers:
            observer.tick(now)

    def say(self, text: str) -> None:
        """See ``Observer.say``."""
        for observer in self._observers:
            observer.say(text)

    def termination_noticed(self, now: float) -> None:
        """See ``Observer.termination_noticed``."""
        for observer in self._observers:
            observer.termination_noticed(now)
