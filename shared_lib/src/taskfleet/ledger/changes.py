"""The changes of one transaction: how many tasks went from one state to another, and which have descendants that have to follow."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from taskfleet.ledger import counters
from taskfleet.ledger.database import Database
from taskfleet.tasks import Outcome, State


class Count(NamedTuple):
    """The key of a count; a plain tuple, because there is one per task of a batch."""

    state: State
    kind: int = 0
    """How the task failed, if it is FAILED."""


WAITING = Count(State.WAITING)
PENDING = Count(State.PENDING)
RUNNING = Count(State.RUNNING)
SUCCEEDED = Count(State.SUCCEEDED)
KILLED = Count(State.KILLED)
UPSTREAM = Count(State.FAILED, int(Outcome.UPSTREAM))

#: How tasks are counted that failed or were killed because of others.
BROKEN = {State.FAILED: UPSTREAM, State.KILLED: KILLED}

ENDED = (State.SUCCEEDED, State.FAILED)


class Changes:
    """Collects what a transaction changes, and writes the counts at its end. ``Transitions`` has the changes themselves."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts: defaultdict[Count, int] = defaultdict(int)
        self._totals: defaultdict[str, int] = defaultdict(int)
        self._ended: defaultdict[int, int] = defaultdict(int)
        """The number of tasks that ended, by second."""
        self._succeeded: list[int] = []
        self._with_parts: list[int] = []
        """Tasks with results that look as if they had returned calls."""
        self._failed: list[int] = []
        self._killed: list[int] = []
        self._revived: list[int] = []
        self._blamed: list[int] = []
        """Tasks that ended because of another task than before."""
        self._have_left_workers = False
        """Whether tasks were running and are not any more."""

    def _end(self, source: Count, target: Count, seqs: Sequence[int], now: float) -> None:
        """Count tasks that ended; everything that depends on the end of a task belongs here."""
        self._move(source, target, len(seqs))
        if target.state is State.FAILED:
            self._failed += seqs
        else:
            if source.state in BROKEN:  # a late success
                self._revived += seqs
            if source.state is not State.SUCCEEDED:
                self._succeeded += seqs
        if source.state not in ENDED:
            self._ended[int(now)] += len(seqs)

    def _move(self, source: Count, target: Count, n: int) -> None:
        self._counts[source] -= n
        self._counts[target] += n
        if source.state is State.RUNNING and n:
            self._have_left_workers = True

    def _queue(self, source: Count, rows: Sequence[tuple[int, int]]) -> list[int]:
        """Count tasks (number, state) that are pending or waiting now, and have the pending ones sent; return the waiting ones."""
        pending = [seq for seq, state in rows if state == State.PENDING]
        waiting = [seq for seq, state in rows if state == State.WAITING]
        self._move(source, PENDING, len(pending))
        self._move(source, WAITING, len(waiting))
        self._send_later(pending)
        return waiting

    def _send_later(self, seqs: Sequence[int]) -> None:
        if seqs and self._is_remote():
            self._database.execute_many("INSERT OR IGNORE INTO unsent (seq) VALUES (?)", [(seq,) for seq in seqs])

    def _is_remote(self) -> bool:
        return self._database.value("SELECT queue_url FROM job") is not None

    def _write_counts(self) -> None:
        for (state, kind), n in self._counts.items():
            counters.add(self._database, state, kind, n)
        for name, n in self._totals.items():
            counters.tally(self._database, name, n)
        for second, n in self._ended.items():
            counters.add_finished(self._database, n, second)
