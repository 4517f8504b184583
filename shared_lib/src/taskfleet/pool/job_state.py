"""The state of a job that its pool depends on: tasks left, heartbeats, productive and unproductive machines."""

from collections.abc import Mapping
from typing import Protocol

from taskfleet.ledger import counters, managers
from taskfleet.ledger.database import Database
from taskfleet.machines import EndReason
from taskfleet.pool import records
from taskfleet.tasks import State

#: Reasons that can end a machine before its first task, and that are not failures of the machine.
NOT_FAILURES = frozenset(
    {
        EndReason.PREEMPTED,
        EndReason.DONE,
        EndReason.STOPPED,
        EndReason.TORN_DOWN,
        EndReason.TERMINATED,
        EndReason.GAVE_UP,
        EndReason.UNKNOWN,
        EndReason.CANCELLED,
        EndReason.NOTHING_WORKED,
    }
)


class JobState(Protocol):
    """What a controller needs to know about its job."""

    def tasks_left(self) -> int:
        """Return the number of tasks of the job that are pending, running or waiting."""

    def tasks_runnable(self) -> int:
        """Return the number of slots that the tasks of the pool take that are pending or running."""

    def last_heartbeats(self) -> Mapping[str, float]:
        """Return the time of the last heartbeat from each machine, by the machine's token."""

    def productive_machines(self) -> Mapping[str, float]:
        """Return the time of the last heartbeat from each productive machine of the pool, by token."""


class LedgerJobState:
    """The state of the job of a ledger, for the pool of a manager, whose tasks take some slots each."""

    def __init__(self, database: Database, manager_id: int = 0, *, slots_per_task: int = 1) -> None:
        self._database = database
        self._slots_per_task = slots_per_task
        self._manager_id = manager_id

    def tasks_left(self) -> int:
        """See ``JobState.tasks_left``."""
        counts = counters.by_state(self._database)
        return counts[State.PENDING] + counts[State.RUNNING] + counts[State.WAITING]

    def tasks_runnable(self) -> int:
        """See ``JobState.tasks_runnable``."""
        return managers.runnable(self._database).get(self._manager_id, 0) * self._slots_per_task

    def last_heartbeats(self) -> Mapping[str, float]:
        """See ``JobState.last_heartbeats``."""
        return records.last_heartbeats(self._database)

    def productive_machines(self) -> Mapping[str, float]:
        """See ``JobState.productive_machines``."""
        return records.productive_machines(self._database, self._manager_id)


def failures(
    database: Database, productive: Mapping[str, float], since: float = 0.0, *, manager_id: int = 0
) -> list[float]:
    """Return the times at which unproductive machines of a pool ended that are counted as failures.

    Args:
        database: The ledger.
        productive: See ``JobState.productive_machines``; machines that ended before their last heartbeat are not counted.
        since: Machines that ended earlier are not counted, either.
        manager_id: The number of the manager whose pool it is about.
    """
    ended = records.ended_since(database, max((since, *productive.values())), manager_id)
    return [
        one.ended_at
        for one in ended
        if one.ended_at is not None and one.token not in productive and one.end_reason not in NOT_FAILURES
    ]
