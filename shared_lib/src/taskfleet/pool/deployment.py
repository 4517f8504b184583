"""A controller at work: it takes in what workers tell, keeps the pool full, shows how the job gets on, and heeds the user."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Protocol

from taskfleet.errors import LedgerError, ProviderError, StartUpError, UnreachableError
from taskfleet.ledger.database import Database
from taskfleet.machines import Machines
from taskfleet.pool import control
from taskfleet.pool.controller import Controller
from taskfleet.pool.ending import end_all
from taskfleet.pool.records import End
from taskfleet.processes.identity import identity

TICK_SECONDS = 0.2
TROUBLE_SECONDS = 1.0


class Ending(StrEnum):
    """How the watch over a pool ended."""

    DONE = "done"
    """All tasks have come to an end."""
    GAVE_UP = "given up"
    """No machine works, and none will."""
    TERMINATED = "terminated"
    """The user wants all machines ended."""
    LEFT = "left"
    """The user wants them to go on alone."""
    STOPPED = "stopped"
    """Somebody ran poe stop, or another controller has taken over."""


class Display(Protocol):
    """Shows how the job gets on."""

    def tick(self, now: float) -> None:
        """Show where the job stands, if it is time to."""

    def say(self, line: str) -> None:
        """Print a line."""


class Interrupted(Exception):
    """The user, or the system, wants this process to end."""

    def __init__(self, ending: Ending | None) -> None:
        """Say what is to become of the machines; None asks the user."""
        super().__init__(ending)
        self.ending = ending


class Deployment:
    """One run of ``poe deploy_pool``.

    Args:
        database: The job's ledger.
        controller: Looks after the machines.
        machines: The provider.
        take_in: Takes in what workers elsewhere have told, waiting a moment for it; None if they write into the ledger themselves.
        progress: Shows how the job gets on.
        ask: Asks the user what is to become of the machines; None carries on.
        poll_seconds: How often the controller looks.
        ending_poll_seconds: How often, while all machines are being ended.
        empty_lists_to_confirm: How many lists in a row have to be empty before none counts as left.
    """

    def __init__(
        self,
        database: Database,
        controller: Controller,
        machines: Machines,
        *,
        take_in: Callable[[], int] | None,
        progress: Display,
        ask: Callable[[], Ending | None],
        poll_seconds: float,
        ending_poll_seconds: float,
        empty_lists_to_confirm: int,
    ) -> None:
        self._database = database
        self._controller = controller
        self._machines = machines
        self._take_in = take_in
        self._progress = progress
        self._ask = ask
        self._poll_seconds = poll_seconds
        self._ending_poll_seconds = ending_poll_seconds
        self._empty_lists_to_confirm = empty_lists_to_confirm
        self._me = identity()
        self._step_at = 0.0
        self._trouble = ""
        self.why_given_up = ""

    def watch(self) -> Ending:
        """Look after the pool until there is a reason not to."""
        while True:
            try:
                ending = self._turn()
            except (KeyboardInterrupt, Interrupted) as interruption:
                ending = interruption.ending if isinstance(interruption, Interrupted) else None
                ending = ending or self._ask()
            except (LedgerError, UnreachableError) as error:
                self._say_trouble(f"{error} Trying again.")
                time.sleep(TROUBLE_SECONDS)
                continue
            if ending is not None:
                return ending

    def end_all(self, end: End, clear: Callable[[], Mapping[str, int]]) -> None:
        """End all machines, look until none is there, and clear up after them; take in what workers tell meanwhile."""
        end_all(
            self._machines,
            lambda now: self._controller.end_all(now, end),
            self._progress.say,
            clear=clear,
            pause=self._pause,
            poll_seconds=self._ending_poll_seconds,
            empty_lists_to_confirm=self._empty_lists_to_confirm,
        )

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with suppress(LedgerError, UnreachableError):
            while self._take_in is not None and self._take_in():
                if time.monotonic() > until:
                    return
        time.sleep(max(0.0, until - time.monotonic()))

    @property
    def last_words(self) -> str:
        """The last lines that a machine printed which had to be replaced."""
        return self._controller.last_words

    def _turn(self) -> Ending | None:
        if self._take_in is None:
            time.sleep(TICK_SECONDS)
        else:
            self._take_in()
        now = time.time()
        self._progress.tick(now)
        if now - self._step_at < self._poll_seconds and self._step_at <= now:
            return None
        self._step_at = now
        if not control.stay_in_control(self._database, self._me, now):
            return Ending.STOPPED
        try:
            found = self._controller.step(now)
        except (ProviderError, StartUpError) as error:  # one of the queue is not a reason to end machines that work
            self.why_given_up = str(error).rstrip(".")
            return Ending.GAVE_UP
        if found is None:
            return None
        self._trouble = ""
        if found.is_complete:
            return Ending.DONE
        if found.gives_up and found.hold is not None:
            self.why_given_up = found.hold.text
            return Ending.GAVE_UP
        return None

    def _say_trouble(self, text: str) -> None:
        if text != self._trouble:
            self._progress.say(text)
        self._trouble = text
