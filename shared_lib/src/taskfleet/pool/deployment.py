"""The main loop of ``poe deploy_pool``: record events of workers, step the controller, show progress, react to signals."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Protocol

from taskfleet.errors import LedgerError, UnreachableError, UnusableLedgerError
from taskfleet.ledger.database import Database
from taskfleet.pool import control
from taskfleet.pool.job_machines import JobMachines
from taskfleet.pool.pools import Pools
from taskfleet.pool.records import End
from taskfleet.pool.teardown import terminate_all
from taskfleet.processes.identity import identity

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.2
ERROR_PAUSE_SECONDS = 1.0


class Ending(StrEnum):
    """How the main loop ended."""

    DONE = "done"
    """All tasks are done."""
    GAVE_UP = "given up"
    """No machine runs tasks, and none will."""
    TERMINATED = "terminated"
    """The user wants to terminate all machines."""
    LEFT = "left"
    """The user wants the machines to continue without a controller."""
    STOPPED = "stopped"
    """``poe stop`` was run, or another controller has taken over."""


class Display(Protocol):
    """Shows the progress of the job."""

    def tick(self, now: float) -> None:
        """Update the progress if it is due."""

    def say(self, line: str) -> None:
        """Print a line."""


class Interrupted(Exception):
    """The user or the system wants this process to end.

    Args:
        reason: Determines what happens to the machines; None to ask the user.
    """

    def __init__(self, reason: Ending | None) -> None:
        super().__init__(reason)
        self.reason = reason


class Deployment:
    """One run of ``poe deploy_pool``.

    Args:
        database: The job's ledger.
        pools: The job's pools.
        machines: The job's machines.
        record_events: Waits a moment for events of remote workers, records them and returns their number; None if the workers write to
            the ledger themselves. It reports outages of the queue itself, and raises UnreachableError soon.
        progress: Shows the progress of the job.
        on_interrupt: Asks the user what to do with the machines; returns None to continue.
        poll_seconds: The interval of the controller's steps.
        ending_poll_seconds: The interval while all machines are being terminated.
        empty_lists_to_confirm: The number of consecutive empty lists after which no machine counts as left.
    """

    def __init__(
        self,
        database: Database,
        pools: Pools,
        machines: JobMachines,
        *,
        record_events: Callable[[], int] | None,
        progress: Display,
        on_interrupt: Callable[[], Ending | None],
        poll_seconds: float,
        ending_poll_seconds: float,
        empty_lists_to_confirm: int,
    ) -> None:
        self._database = database
        self._pools = pools
        self._machines = machines
        self._record_events = record_events
        self._progress = progress
        self._on_interrupt = on_interrupt
        self._poll_seconds = poll_seconds
        self._ending_poll_seconds = ending_poll_seconds
        self._empty_lists_to_confirm = empty_lists_to_confirm
        self._me = identity()
        self._step_at = 0.0
        self._ledger_error = ""
        """The error that is being retried; it is printed once."""
        self.give_up_reason = ""

    def run(self) -> Ending:
        """Manage the pool until there is a reason to end.

        Raises:
            UnusableLedgerError: The ledger is damaged, or was deleted or replaced.
        """
        while True:
            try:
                reason = self._turn()
            except (KeyboardInterrupt, Interrupted) as interruption:
                reason = interruption.reason if isinstance(interruption, Interrupted) else None
                reason = reason or self._on_interrupt()
                logger.info("Interrupted: %s.", reason or "continuing")
            except UnusableLedgerError:
                raise
            except LedgerError as error:
                if str(error) != self._ledger_error:
                    self._progress.say(f"{error} Retrying.")
                self._ledger_error = str(error)
                time.sleep(ERROR_PAUSE_SECONDS)
                continue
            if reason is not None:
                logger.info("The pool's main loop ends: %s.", reason)
                return reason

    def terminate_all(self, end: End, clear: Callable[[], Mapping[str, int]]) -> None:
        """Terminate all machines and delete the job's other resources; record events of workers meanwhile."""
        terminate_all(
            self._machines,
            lambda now: self._pools.terminate_all(now, end),
            self._progress.say,
            clear=clear,
            pause=self._pause,
            poll_seconds=self._ending_poll_seconds,
            empty_lists_to_confirm=self._empty_lists_to_confirm,
        )

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with suppress(LedgerError, UnreachableError):
            while self._record_events is not None and self._record_events():
                if time.monotonic() > until:
                    return
        time.sleep(max(0.0, until - time.monotonic()))

    @property
    def last_console(self) -> str:
        """See ``Pools.last_console``."""
        return self._pools.last_console

    def _turn(self) -> Ending | None:
        is_informed = self._record()
        now = time.time()
        self._progress.tick(now)
        if now - self._step_at < self._poll_seconds and self._step_at <= now:
            return None
        self._step_at = now
        if not control.renew(self._database, self._me, now):
            return Ending.STOPPED
        if not is_informed:
            return None
        found = self._pools.step(now)
        if self._ledger_error:
            self._progress.say("The ledger is available again.")
            self._ledger_error = ""
        if found.is_complete:
            return Ending.DONE
        self.give_up_reason = found.give_up_reason
        return Ending.GAVE_UP if found.give_up_reason else None

    def _record(self) -> bool:
        """Record events; return False during an outage of the queue: without heartbeats, no machine may be judged."""
        if self._record_events is None:
            time.sleep(TICK_SECONDS)
            return True
        try:
            self._record_events()
        except UnreachableError:
            return False
        return True
