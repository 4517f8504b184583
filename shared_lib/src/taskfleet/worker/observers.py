"""Whoever shows or writes down what a worker does."""

from collections.abc import Sequence
from typing import Protocol

from taskfleet.tasks import Finished, FinishReport, Lease


class Observer(Protocol):
    """One of them; never essential to the work."""

    def recorded(self, leases: Sequence[Lease], finished: Sequence[Finished], report: FinishReport) -> None:
        """Attempts were recorded: ``leases[i]`` belongs to ``finished[i]``."""

    def tick(self, now: float) -> None:
        """Called in every turn of the loop."""

    def say(self, text: str) -> None:
        """Something the user should know."""

    def termination_noticed(self, now: float) -> None:
        """The machine is about to be taken away."""


class Display(Observer, Protocol):
    """An observer that shows the user how the worker gets on."""

    def close(self, now: float) -> None:
        """Leave the last state standing."""


class Observers:
    """All observers of a worker as one."""

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
