"""Counts and statistics of durations, updated in the transaction of each change."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taskfleet.ledger.database import Database
from taskfleet.tasks import FAILURE_KINDS, Outcome, State

#: Adjacent buckets differ by 2 %, so the error of a percentile is at most 1 %.
BUCKET_WIDTH = math.log(1.02)
SHORTEST_SECONDS = 1e-6
#: The totals as they were at the last ``rezero``, by their names in the table of totals.
_REZEROED = ("rezeroed_at", "rezeroed_inserted", "rezeroed_completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Statistics of the durations of successful attempts, in seconds."""

    n: int
    low: float
    high: float
    mean: float
    standard_deviation: float
    median: float
    percentile_90: float
    percentile_95: float


def add(database: Database, state: State, kind: int, n: int) -> None:
    """Change the number of tasks in a state (for failed tasks, of a kind) by ``n``."""
    if n:
        database.execute(
            "INSERT INTO counter (state, kind, n) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            (int(state), kind, n),
        )


def tally(database: Database, name: str, n: int) -> None:
    """Add ``n`` to a total."""
    if n:
        database.execute(
            "INSERT INTO tally (name, n) VALUES (?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n", (name, n)
        )


def add_finished(database: Database, n: int, now: float) -> None:
    """Record that ``n`` tasks ended."""
    if n:
        database.execute(
            "INSERT INTO throughput (second, n) VALUES (?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
            (int(now), n),
        )


def add_durations(database: Database, seconds: Sequence[float]) -> None:
    """Add the durations of successful attempts to the statistics."""
    if not seconds:
        return
    log, shortest = math.log, SHORTEST_SECONDS
    buckets = Counter([int(log(s if s > shortest else shortest) // BUCKET_WIDTH) for s in seconds])
    database.execute_many(
        "INSERT INTO duration (bucket, n) VALUES (?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
        list(buckets.items()),
    )
    n, mean = len(seconds), math.fsum(seconds) / len(seconds)
    m2 = math.fsum([(s - mean) ** 2 for s in seconds])
    low, high = min(seconds), max(seconds)
    known = database.row("SELECT n, mean, m2, low, high FROM duration_moments")
    if known is None:
        database.execute(
            "INSERT INTO duration_moments (n, mean, m2, low, high) VALUES (?, ?, ?, ?, ?)", (n, mean, m2, low, high)
        )
        return
    # Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
    n0, mean0, m20, low0, high0 = known
    delta, total = mean - mean0, n0 + n
    database.execute(
        "UPDATE duration_moments SET n = ?, mean = ?, m2 = ?, low = ?, high = ?",
        (total, mean0 + delta * n / total, m20 + m2 + delta * delta * n0 * n / total, min(low0, low), max(high0, high)),
    )


def by_state(database: Database) -> dict[State, int]:
    """Return the number of tasks in each state."""
    counts = dict.fromkeys(State, 0)
    for state, n in database.rows("SELECT state, sum(n) FROM counter GROUP BY state"):
        counts[State(state)] = n
    return counts


def by_failure_kind(database: Database) -> dict[Outcome, int]:
    """Return the number of failed tasks of each kind."""
    counts = dict.fromkeys(FAILURE_KINDS, 0)
    for kind, n in database.rows("SELECT kind, n FROM counter WHERE state = ?", (int(State.FAILED),)):
        counts[Outcome(kind)] = n
    return counts


def tallies(database: Database) -> dict[str, int]:
    """Return the totals ``inserted``, ``duplicates``, ``retries`` and ``lost``."""
    totals = {"inserted": 0, "duplicates": 0, "retries": 0, "lost": 0}
    return totals | dict(database.rows("SELECT name, n FROM tally"))


@dataclass(frozen=True, slots=True)
class SinceRezero:
    """What was counted since the last ``rezero``."""

    at: int
    """Seconds since the epoch."""
    inserted: int
    completed: int
    """Tasks that succeeded."""


def rezero(database: Database, now: float) -> None:
    """Begin to count inserted and completed tasks from zero, in addition to all totals."""
    with database.transaction(durable=True):
        numbers = (int(now), tallies(database)["inserted"], by_state(database)[State.SUCCEEDED])
        for name, n in zip(_REZEROED, numbers, strict=True):
            database.execute(
                "INSERT INTO tally (name, n) VALUES (?, ?) ON CONFLICT DO UPDATE SET n = excluded.n", (name, n)
            )


def since_rezero(database: Database) -> SinceRezero | None:
    """Return what was counted since the last ``rezero``; None if there was none."""
    known = tallies(database)
    if _REZEROED[0] not in known:
        return None
    at, inserted, completed = (known[name] for name in _REZEROED)
    succeeded = by_state(database)[State.SUCCEEDED]
    return SinceRezero(at, max(0, known["inserted"] - inserted), max(0, succeeded - completed))


def rate_per_second(
    database: Database,
    now: float,
    *,
    window_seconds: int = 60,
    since: float = 0.0,
    task_seconds: float = 0.0,
) -> float | None:
    """Return the number of tasks that ended per second in the last ``window_seconds``; None if none did.

    The window starts when the first task began that ended since the workers have been running, if that is later.

    Args:
        database: The ledger.
        now: Seconds since the epoch.
        window_seconds: The length of the window.
        since: When the first of the running workers started.
        task_seconds: The usual duration of a task.
    """
    first = database.value("SELECT min(second) FROM throughput WHERE second >= ?", (int(since),))
    if first is None:
        return None
    start = int(now) - window_seconds + 1
    n = database.value("SELECT sum(n) FROM throughput WHERE second >= ?", (max(start, first),))
    return float(n / max(now - max(start, first - task_seconds), 1.0)) if n else None


def durations(database: Database) -> Durations | None:
    """Return the statistics of the durations; None if no attempt has succeeded."""
    known = database.row("SELECT n, mean, m2, low, high FROM duration_moments")
    if known is None:
        return None
    n, mean, m2, low, high = known
    buckets = database.rows("SELECT bucket, n FROM duration ORDER BY bucket")
    median, p90, p95 = (min(max(value, low), high) for value in _percentiles(buckets, n, (0.5, 0.9, 0.95)))
    deviation = math.sqrt(max(m2, 0.0) / (n - 1)) if n > 1 else 0.0
    return Durations(
        n=n,
        low=low,
        high=high,
        mean=mean,
        standard_deviation=deviation,
        median=median,
        percentile_90=p90,
        percentile_95=p95,
    )


def _percentiles(buckets: Sequence[tuple[int, int]], total: int, shares: Iterable[float]) -> list[float]:
    """Return the percentiles for the given shares (nearest rank), as the middle of their buckets."""
    found = []
    for share in shares:
        rank, seen, value = max(1, math.ceil(share * total)), 0, 0.0
        for bucket, n in buckets:
            seen += n
            value = math.exp((bucket + 0.5) * BUCKET_WIDTH)
            if seen >= rank:
                break
        found.append(value)
    return found
