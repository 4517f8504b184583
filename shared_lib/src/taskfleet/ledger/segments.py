"""Reads segments and which tasks are accepted; ``transitions`` changes them.

A segment is a run of accepted tasks. Its tasks get a row in ``state`` with their first lease; when all have one, the segment is deleted. A
task of a small insertion is in no segment and has a row in ``state`` from the beginning. A task with neither belongs to an insertion that
is in progress or was killed, and is ignored.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taskfleet.ledger.database import Database, as_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of consecutive accepted tasks, possibly with gaps."""

    first_seq: int
    next_seq: int
    """Its tasks from this number on were never leased."""
    last_seq: int
    sent_seq: int = 0
    """With a service queue, its tasks up to this number were sent."""


def first_open(database: Database, skip: int = 0) -> Segment | None:
    """Return the first segment with tasks that were never leased, beyond the first ``skip`` of the job; None if there is none."""
    row = database.row(
        "SELECT first_seq, next_seq, last_seq FROM segment WHERE next_seq <= last_seq AND last_seq > :skip "
        "AND first_seq >= coalesce((SELECT max(first_seq) FROM segment WHERE first_seq <= :skip), 0) ORDER BY first_seq LIMIT 1",
        {"skip": skip},
    )
    if row is None:
        return None
    first_seq, next_seq, last_seq = row
    return Segment(first_seq=first_seq, next_seq=next_seq, last_seq=last_seq)


def fresh(database: Database, seqs: Sequence[int]) -> Iterator[tuple[Segment, list[int]]]:
    """Yield the segments of those tasks that have no row in ``state``, with the numbers of these tasks in order."""
    found = defaultdict(list)
    rows = database.rows(
        "SELECT task.seq, (SELECT first_seq FROM segment WHERE first_seq <= task.seq ORDER BY first_seq DESC LIMIT 1) AS first "
        "FROM json_each(?) JOIN task ON task.seq = value WHERE NOT EXISTS (SELECT 1 FROM state WHERE state.seq = task.seq) "
        "AND first IS NOT NULL ORDER BY task.seq",
        (as_json(seqs),),
    )
    for seq, first in rows:
        found[first].append(seq)
    for first, of_segment in found.items():
        first_seq, next_seq, last_seq, sent_seq = database.rows(
            "SELECT first_seq, next_seq, last_seq, sent_seq FROM segment WHERE first_seq = ?", (first,)
        )[0]
        inside = [seq for seq in of_segment if seq <= last_seq]
        if inside:
            yield Segment(first_seq=first_seq, next_seq=next_seq, last_seq=last_seq, sent_seq=sent_seq), inside


def without(segment: Segment, seqs: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs (first, last) of what is left of a segment without some of its tasks, whose numbers are in order."""
    first = segment.next_seq
    for seq in seqs:
        if first < seq:
            yield first, seq - 1
        first = seq + 1
    if first <= segment.last_seq:
        yield first, segment.last_seq


def accepted(seq: str) -> str:
    """Return an SQL condition: whether the task with a number is accepted. It needs ``state``, outer-joined by the number."""
    last_seq = f"SELECT last_seq FROM segment WHERE first_seq <= {seq} ORDER BY first_seq DESC LIMIT 1"
    return f"(state.seq IS NOT NULL OR coalesce({seq} <= ({last_seq}), FALSE))"


#: The same for ``task.seq``, faster for readers: all tasks before an insertion in progress are accepted.
ACCEPTED = (
    "(task.seq < coalesce((SELECT first_seq FROM insertion WHERE accepted_at IS NULL), task.seq + 1) "
    f"OR {accepted('task.seq')})"
)


def next_seq(database: Database) -> int:
    """Return the first free number: beyond all tasks, segments (whose last tasks may have been deleted) and an insertion in progress."""
    return 1 + int(
        database.value(
            "SELECT max(coalesce((SELECT max(seq) FROM task), 0), "
            "coalesce((SELECT last_seq FROM segment ORDER BY first_seq DESC LIMIT 1), 0), "
            "coalesce((SELECT last_seq FROM insertion WHERE accepted_at IS NULL), 0))"
        )
    )
