"""Lets the descendants of tasks follow a failure, a revival or a success that concerns many, in steps that keep other processes going.

Each step is a transaction, and what is left is in the table ``frontier``: whichever process changes the ledger next continues.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

from taskfleet.ledger import arguments, attempts, edges
from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.edges import Needs
from taskfleet.ledger.parts import insert_parts
from taskfleet.ledger.releasing import Follow, note
from taskfleet.ledger.transitions import Transitions, changing
from taskfleet.tasks import Outcome, State

#: Children that follow in one transaction.
STEP = 1000
#: After a transaction, others have the ledger for as long as it took, or at most for this time.
MOST_PAUSE_SECONDS = 0.01


def carry(
    database: Database,
    seconds: float | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Let descendants follow what is noted.

    Between two transactions it pauses: a process that waits for the lock tries only now and then, and would hardly ever find it free.

    Args:
        database: The job's ledger.
        seconds: Stop after this time; None to go on until nothing is left.
        clock: Monotonic seconds.
        sleep: Pauses for some seconds.

    Returns:
        Whether something is left.
    """
    deadline = None if seconds is None else clock() + seconds
    began: float | None = None
    while (first := database.row("SELECT note_id, seq, what FROM frontier ORDER BY note_id LIMIT 1")) is not None:
        if deadline is not None and clock() > deadline:
            return True
        if began is not None:
            sleep(min(time.monotonic() - began, MOST_PAUSE_SECONDS))
        began = time.monotonic()
        note_id, seq, what = first
        if what == Follow.PARTS:
            insert_parts(database, note_id, seq)
            continue
        with changing(database) as change:
            left = STEP
            while left > 0 and (notes := _next(database, left)) is not None and notes.what is not Follow.PARTS:
                left -= _step(database, change, notes, left)
    return False


class _Notes(NamedTuple):
    """Notes that are followed together."""

    ids: list[int]
    seqs: list[int]
    what: Follow
    after: int
    """The children of the only task up to this number have followed."""


def _next(database: Database, most: int) -> _Notes | None:
    """Return the first notes, which all say the same and concern at most so many children, if there are several; None if there are none."""
    rows = database.rows("SELECT note_id, seq, what, after FROM frontier ORDER BY note_id LIMIT ?", (most,))
    if not rows:
        return None
    _, _, what, after = rows[0]
    same = [(note_id, seq) for note_id, seq, _, _ in takewhile(lambda row: row[2] == what and not row[3], rows)] or [
        rows[0][:2]
    ]
    ids, seqs = [note_id for note_id, _ in same], [seq for _, seq in same]
    while what != Follow.PARENTS and len(seqs) > 1 and edges.count_children(database, seqs, most + 1) > most:
        ids, seqs = ids[: len(ids) // 2], seqs[: len(seqs) // 2]
    return _Notes(ids, seqs, Follow(what), after)


def _step(database: Database, change: Transitions, notes: _Notes, most: int) -> int:
    """Let tasks follow notes, of a single one up to ``most`` children; return their number."""
    what = notes.what
    if what is Follow.PARENTS:
        for seq in notes.seqs:
            cause = _cause(database, seq)
            if cause is not None:
                change.break_waiting([seq], *cause)
        _forget(database, notes)
        return len(notes.seqs)
    if len(notes.seqs) == 1:
        found = edges.children(database, notes.seqs[0], notes.after, most)
        children = [(notes.seqs[0], child, needs) for child, needs in found]
    else:
        children = edges.dependencies(database, notes.seqs)
    every = sorted({child for _, child, _ in children})
    if len(notes.seqs) == 1 and len(every) == most:
        database.execute("UPDATE frontier SET after = ? WHERE note_id = ?", (every[-1], notes.ids[0]))
    else:
        _forget(database, notes)
    if what is Follow.SUCCESS:
        change.decrement_missing([child for _, child, _ in children])
    elif what in (Follow.RERUN, Follow.RERUN_ALL):
        change.increment_missing([child for _, child, _ in children])
        again = change.wait_again(every)
        if what is Follow.RERUN_ALL:
            change.discard_successes(every)
        note(database, again, what)
    elif what is Follow.CHANGED:
        change.discard_successes(every)
        note(database, change.run_again(every), Follow.RERUN)
    else:
        _follow_failure(database, change, what, children)
    return max(len(every), 1)


def _follow_failure(
    database: Database, change: Transitions, what: Follow, children: Sequence[tuple[int, int, int]]
) -> None:
    """Let children follow a failure of their parents, the end of one, or another cause."""
    on_end = [child for _, child, needs in children if needs == Needs.END]
    if what in (Follow.FAILURE, Follow.KILL):
        roots = _roots(database, {parent for parent, _, _ in children})
        by_root: dict[int, list[int]] = {}
        for parent, child, needs in children:
            if needs == Needs.SUCCESS:
                by_root.setdefault(roots[parent], []).append(child)
        for root_seq, seqs in by_root.items():
            change.break_waiting(seqs, root_seq, State.FAILED if what is Follow.FAILURE else State.KILLED)
        change.decrement_missing(on_end)
        return
    _revive(database, change, sorted({child for _, child, needs in children if needs == Needs.SUCCESS}))
    if what is Follow.REVIVAL:
        change.increment_missing(on_end)
        note(database, change.wait_again(sorted(set(on_end))), Follow.RERUN)


def _forget(database: Database, notes: _Notes) -> None:
    database.execute_many("DELETE FROM frontier WHERE note_id = ?", [(note_id,) for note_id in notes.ids])


def _revive(database: Database, change: Transitions, seqs: Sequence[int]) -> None:
    """Let tasks wait again that ended because of others, except for those with another parent that did not succeed."""
    broken = database.rows(
        f"SELECT seq, root_seq, state FROM state WHERE seq IN (SELECT value FROM json_each(?)) "
        f"AND state IN ({State.FAILED}, {State.KILLED}) AND root_seq IS NOT NULL",
        (as_json(seqs),),
    )
    is_any_broken = database.value(
        f"SELECT EXISTS (SELECT 1 FROM state WHERE state = {State.KILLED}) "
        f"OR EXISTS (SELECT 1 FROM state WHERE state = {State.FAILED} AND kind < {Outcome.UPSTREAM}) "
        f"OR EXISTS (SELECT 1 FROM state WHERE state = {State.FAILED} AND kind > {Outcome.UPSTREAM})"
    )
    revived = []
    for seq, root_seq, state in broken:
        cause = _cause(database, seq) if is_any_broken else None
        if cause is None:
            revived.append(seq)
        elif cause != (root_seq, state):
            change.blame(seq, State(state), *cause)
    change.revive_broken(revived)


def _cause(database: Database, seq: int) -> tuple[int, State] | None:
    """Return why a parent, whose success a task needs, will not succeed: the first cause, and how it ended; None if all may."""
    data, reuse = database.row("SELECT data, reuse FROM task JOIN state USING (seq) WHERE seq = ?", (seq,))  # type: ignore[misc]
    parents = arguments.parents(database, data)
    success = attempts.last_success(database, seq) if reuse else None
    if success is not None:  # perhaps of a task that returned calls
        parents += arguments.parents(database, success[1])
    for first, last, needs in parents:
        broken = database.row(
            f"SELECT coalesce(root_seq, seq), state FROM state WHERE seq BETWEEN ? AND ? "
            f"AND state IN ({State.FAILED}, {State.KILLED}) LIMIT 1",
            (first, last),
        )
        if broken is not None and needs == Needs.SUCCESS:
            root_seq, state = broken
            return root_seq, State(state)
    return None


def _roots(database: Database, seqs: Iterable[int]) -> dict[int, int]:
    """Return the first causes of failures, by the tasks that failed."""
    return dict(
        database.rows(
            "SELECT seq, coalesce(root_seq, seq) FROM state WHERE seq IN (SELECT value FROM json_each(?))",
            (as_json(seqs),),
        )
    )
