"""How fast a job is, and how long the rest will take."""

import math
from collections.abc import Sequence

from taskfleet.ledger import counters
from taskfleet.ledger.counters import Durations
from taskfleet.ledger.database import Database
from taskfleet.ledger.queries import WorkerRecord

WINDOW_SECONDS = 60
#: The window is long enough for each slot to end this many tasks, so that one task more or less hardly changes the rate.
TASKS_PER_WINDOW = 10
#: From this duration on, the time left is computed from the durations and the slots: the tasks that ended in a minute are too few.
LONG_TASK_SECONDS = WINDOW_SECONDS / TASKS_PER_WINDOW


def window_seconds(durations: Durations | None) -> int:
    """Return the length of the time over which the rate is measured."""
    mean = 0.0 if durations is None else durations.mean
    return max(WINDOW_SECONDS, math.ceil(TASKS_PER_WINDOW * mean))


def rate_per_second(
    database: Database, durations: Durations | None, workers: Sequence[WorkerRecord], now: float
) -> float | None:
    """Return the number of tasks that ended per second lately; None if none did."""
    return counters.rate_per_second(
        database,
        now,
        window_seconds=window_seconds(durations),
        since=min((worker.started_at for worker in workers), default=0.0),
        task_seconds=0.0 if durations is None else durations.mean,
    )


def eta_seconds(
    left: int,
    rate: float | None,
    durations: Durations | None,
    workers: Sequence[WorkerRecord],
    last_end_at: float | None,
    now: float,
) -> float | None:
    """Return the time until all tasks have ended; None if it is unknown.

    Short tasks: the number of tasks left divided by the rate. Long tasks: the slots work through the tasks left in rounds that take as long
    as the mean task, less what has passed of the current round. A round that takes longer than that has an unknown end if it is the last.

    Args:
        left: The number of tasks that have not ended.
        rate: Tasks that ended per second.
        durations: Of the tasks that succeeded.
        workers: The workers that are running.
        last_end_at: When the last task ended.
        now: Seconds since the epoch.
    """
    if not left:
        return 0.0
    slots = sum(worker.slots for worker in workers)
    if not slots:
        return None
    if durations is None or durations.mean < LONG_TASK_SECONDS:
        return left / rate if rate else None
    round_began_at = max(last_end_at or 0.0, min(worker.started_at for worker in workers))
    passed = min(max(now - round_began_at, 0.0), durations.mean)
    return math.ceil(left / slots) * durations.mean - passed or None
