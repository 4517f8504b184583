"""The queue in the ledger: no server; leases and results are rows."""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from taskfleet.code_versions.packages import installed_packages
from taskfleet.ledger import code, control, counters, frontier, leasing, managers
from taskfleet.ledger.database import Database
from taskfleet.ledger.environments import set_environment
from taskfleet.processes.identity import hostname, identity, machine
from taskfleet.queues import Depth, Orders
from taskfleet.settings import Settings
from taskfleet.tasks import Finished, FinishReport, Lease, LeaseLostError, Outcome, RetryPolicy, State

logger = logging.getLogger(__name__)

#: How often a busy worker checks for dead workers; an idle one checks at each call.
REAP_SECONDS = 2.0


def retry_policy(settings: Settings) -> RetryPolicy:
    """Return the retry policy of the settings."""
    kinds = {
        "exception": Outcome.EXCEPTION,
        "timeout": Outcome.TIMEOUT,
        "exit": Outcome.EXIT,
        "memory": Outcome.MEMORY,
        "lost": Outcome.LOST,
        "request": Outcome.RETRY,
    }
    return RetryPolicy(
        retries={kind: getattr(settings, f"retries_on_{word}") for word, kind in kinds.items()},
        delay_seconds=settings.retry_delay_seconds,
        max_delay_seconds=settings.retry_delay_max_seconds,
        delays={kinds[word]: (first, longest) for word, first, longest in settings.retry_delays},
    )


class EmbeddedQueue:
    """One worker's access to the ledger's queue. Leases end ``lease_seconds`` after the last renewal, or with the process.

    Args:
        database: The job's ledger.
        settings: The settings.
        slots: The number of the worker's slots.
        now: Seconds since the epoch.
        manager: Take only tasks of this manager; empty for the default one.
        policies: The retry policies of other managers, whose workers may die, by their numbers.
    """

    counts_exactly: ClassVar[bool] = True
    return_excess_after_seconds: ClassVar[float] = 2.0
    arrivals: None = None

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        slots: int,
        now: float,
        manager: str = "",
        policies: Mapping[int, RetryPolicy] | None = None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._policy = retry_policy(settings)
        self._slots = slots
        most = settings.max_concurrent_tasks
        self._limit = None if most is None else leasing.Limit(concurrent_tasks=most, slots=slots)
        self._manager = managers.number_of(database, manager)
        self._policies = policies
        self._reaped_at = 0.0
        self._began_at = now
        self._worker_id: int | None = None
        self._codes: Mapping[str, str] = {}
        self._orders = Orders()
        self._orders_version = 0

    @property
    def worker_id(self) -> int:
        """The worker's number in the ledger. It is registered at its first ``lease``, when it is known to be able to run tasks."""
        if self._worker_id is None:
            if self._database.probe is not None:
                self._database.probe.begin(self._settings.lease_seconds / 3)
            self._worker_id = self._register(self._began_at)
        return self._worker_id

    def lease(self, most: int, now: float) -> list[Lease]:
        """See ``Queue.lease``."""
        if now - self._reaped_at >= REAP_SECONDS:
            self._reap(now)
        leases = self._lease(most, now)
        if not leases and self._reap(now):
            leases = self._lease(most, now)
        return leases

    def renew(self, now: float) -> None:
        """See ``Queue.renew``."""
        if self._database.probe is not None:
            self._database.probe.repeat(self._settings.lease_seconds / 3)
        try:
            leasing.renew(self._database, self.worker_id, lease_seconds=self._settings.lease_seconds, now=now)
        except LeaseLostError:
            self._worker_id = self._register(now)
            raise

    def finish(self, finished: Sequence[Finished], now: float) -> FinishReport:
        """See ``Queue.finish``."""
        return leasing.finish(self._database, self.worker_id, finished, policy=self._policy, now=now)

    def give_back(self, leases: Sequence[Lease]) -> None:
        """See ``Queue.give_back``."""
        if leases:
            leasing.give_back(self._database, self.worker_id, leases)

    def note_code(self, codes: Mapping[str, str]) -> None:
        """See ``Queue.note_code``."""
        self._codes = {**self._codes, **codes}
        if self._worker_id is not None:
            with self._database.transaction():
                code.register_worker_code(self._database, self._worker_id, codes)

    def orders(self) -> Orders:
        """See ``Queue.orders``."""
        version = control.version(self._database)
        if version != self._orders_version or self._orders.cancelled:
            worker_id = self._worker_id
            self._orders_version = version
            self._orders = Orders(
                is_paused=control.is_paused(self._database),
                cancelled=[] if worker_id is None else control.cancelled_of(self._database, worker_id),
            )
        return self._orders

    def count(self) -> Depth:
        """See ``Queue.count``."""
        frontier.carry(self._database)
        counts = counters.by_state(self._database)
        return Depth(
            leasable=leasing.has_leasable(self._database, self._settings.skip_tasks, self._manager),
            running=counts[State.RUNNING] or (counts[State.WAITING] and self._count_of_others()),
            is_limited=self._limit is not None
            and sum(leasing.count_running(self._database, self._manager).values()) >= self._limit.concurrent_tasks,
        )

    def _count_of_others(self) -> int:
        """Return the number of pending tasks that workers of other managers will run."""
        others = leasing.attended(self._database, time.time()) - {self._manager}
        pending = managers.pending(self._database) if others else {}
        return sum(n for number, n in pending.items() if number in others)

    def close(self, now: float, reason: str = "stopped") -> None:
        """See ``Queue.close``."""
        if self._worker_id is not None:
            leasing.end_worker(self._database, self._worker_id, now=now, reason=reason)

    def _lease(self, most: int, now: float) -> list[Lease]:
        settings = self._settings
        try:
            return leasing.lease(
                self._database,
                self.worker_id,
                most,
                skip=settings.skip_tasks,
                lease_seconds=settings.lease_seconds,
                now=now,
                manager=self._manager,
                limit=self._limit,
            )
        except LeaseLostError:
            self._worker_id = self._register(now)
            raise

    def _reap(self, now: float) -> int:
        self._reaped_at = now
        recovered = leasing.reap(self._database, policy=self._policy, now=now, policies=self._policies)
        if recovered:
            logger.info("Recovered %d tasks of dead workers", recovered)
        return recovered

    def _register(self, now: float) -> int:
        worker_id = leasing.register(
            self._database,
            hostname=hostname(),
            process=identity(),
            pid=os.getpid(),
            slots=self._slots,
            lease_seconds=self._settings.lease_seconds,
            now=now,
            machine=machine(),
            manager=self._manager,
        )
        logger.info("Registered as worker %d", worker_id)
        with self._database.transaction():
            set_environment(self._database, worker_id, installed_packages())
            code.register_worker_code(self._database, worker_id, self._codes)
        return worker_id
