"""Changes of tasks whose parents have ended: what they waited for is there, or will never be.

``release`` belongs to the transaction in which the parents succeed, so that no process has to follow and nothing is lost in between.
Everything that may concern many tasks is only noted in ``frontier``, which is followed in steps; see ``frontier``.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from taskfleet.ledger import edges
from taskfleet.ledger.database import Database, as_json
from taskfleet.tasks import State

#: Children that are released in the transaction in which their parents succeed; more are released in steps.
MOST_AT_ONCE = 20_000


class Follow(IntEnum):
    """What the children of a task have to follow. The numbers are stored in the ledger and never change."""

    SUCCESS = 0
    """It succeeded."""
    FAILURE = 1
    """It failed for good."""
    REVIVAL = 2
    """It failed or was killed, and gets another attempt."""
    PARENTS = 3
    """It waits again or for the first time, and perhaps a parent will not succeed: the task itself has to follow."""
    RERUN = 4
    """It succeeded and is to be run again: its children too, if its result differs then."""
    RERUN_ALL = 5
    """The same, and its children are to be run again in any case."""
    CHANGED = 6
    """It was run again and has another result."""
    KILL = 7
    """It was killed."""
    CAUSE = 8
    """It failed or was killed because of another task, and now there is another cause."""
    PARTS = 9
    """It returned calls, which are to be inserted: the task itself has to follow."""


class Reuse(IntEnum):
    """How an earlier success counts in a task that is to be run again. The numbers are stored in the ledger and never change."""

    NOT = 0
    UNLESS_CHANGED = 1
    """It counts again, unless a parent has another result now."""
    COMPARE = 2
    """The task is run; if it has the same result again, its children are not."""
    STALE = 3
    """A parent has another result than the one with which the task is running: it is run again."""
    AFTER_FAILURE = 4
    """It failed or was killed when its children last saw it: whatever its result is, it is another one."""
    PARTS = 5
    """It returned calls, and has succeeded as soon as these have."""


#: Children that need one parent less, and are pending if they need no other. They keep their count in every other state too.
_RELEASE = f"""
    UPDATE state SET missing = missing - n,
        state = iif(
            state = {State.WAITING} AND missing = n AND reuse NOT IN ({Reuse.UNLESS_CHANGED}, {Reuse.PARTS}), {State.PENDING}, state
        )
    FROM (SELECT child, count(*) AS n FROM (%s) GROUP BY child) WHERE seq = child RETURNING seq, state, missing
"""
_IN_EDGES = "SELECT child FROM json_each(:parents) JOIN edge ON edge.parent = json_each.value"
_RELEASE_IN_EDGES = _RELEASE % _IN_EDGES
_RELEASE_CHILDREN = _RELEASE % f"{_IN_EDGES} UNION ALL SELECT value FROM json_each(:linked)"
_DECREMENT = _RELEASE % "SELECT value AS child FROM json_each(:children)"


def release(database: Database, parents: Sequence[int]) -> "Released":
    """Release the children of tasks that succeeded."""
    if not edges.exist(database):
        return Released()
    noted = _noted(database, parents)
    if noted:  # what was noted earlier comes first
        note(database, sorted(noted), Follow.SUCCESS)
        parents = [seq for seq in parents if seq not in noted]
    if edges.count_children(database, parents, MOST_AT_ONCE) == MOST_AT_ONCE:
        note(database, parents, Follow.SUCCESS)
        return Released()
    linked = [str(child) for _, child, _ in edges.linked(database, parents)]
    if not linked:
        return _released(database.rows(_RELEASE_IN_EDGES, {"parents": as_json(parents)}))
    return _released(database.rows(_RELEASE_CHILDREN, {"parents": as_json(parents), "linked": f"[{','.join(linked)}]"}))


def _noted(database: Database, seqs: Sequence[int]) -> set[int]:
    """Return those of some tasks whose children still have to follow something."""
    if not database.value("SELECT EXISTS (SELECT 1 FROM frontier)"):
        return set()
    rows = database.rows("SELECT seq FROM frontier WHERE seq IN (SELECT value FROM json_each(?))", (as_json(seqs),))
    return {seq for (seq,) in rows}


def decrement_missing(database: Database, children: Sequence[int]) -> "Released":
    """Decrement the number of missing parents of each child once per occurrence in a list."""
    return _released(database.rows(_DECREMENT, {"children": as_json(children)}))


def note(database: Database, seqs: Sequence[int], what: Follow) -> None:
    """Note tasks whose children, if there are any, have to follow; for ``PARENTS`` the tasks themselves."""
    noted = seqs if what in (Follow.PARENTS, Follow.PARTS) else edges.with_children(database, seqs)
    database.execute_many("INSERT INTO frontier (seq, what) VALUES (?, ?)", [(seq, int(what)) for seq in noted])


class Released(NamedTuple):
    """Tasks that need no further parent."""

    pending: Sequence[int] = ()
    unchanged: Sequence[int] = ()
    """Those that are still waiting, because their earlier success may count again."""


def _released(changed: Sequence[tuple[int, int, int]]) -> Released:
    free = [(seq, state) for seq, state, missing in changed if missing == 0]
    return Released(
        [seq for seq, state in free if state == State.PENDING], [seq for seq, state in free if state == State.WAITING]
    )
