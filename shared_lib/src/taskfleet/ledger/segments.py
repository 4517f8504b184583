"""Segments, and which tasks there are: read here; ``transitions`` changes them.

A segment is a run of accepted tasks, of which those that were never leased have no row in ``state``; once all have one it is deleted. A
task that was inserted singly lies in none and has a row from the beginning. What has neither belongs to an insertion that is under way or
was killed, and is there for nobody else.
"""

from dataclasses import dataclass

from taskfleet.ledger.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of consecutive accepted tasks, with gaps perhaps."""

    first_seq: int
    next_seq: int
    """Its tasks from this one on were never leased."""
    last_seq: int


def first_open(database: Database, skip: int = 0) -> Segment | None:
    """Return the first segment that has tasks beyond the first ``skip`` of the job which were never leased; None if there is none."""
    row = database.row(
        "SELECT first_seq, next_seq, last_seq FROM segment WHERE next_seq <= last_seq AND last_seq > :skip "
        "AND first_seq >= coalesce((SELECT max(first_seq) FROM segment WHERE first_seq <= :skip), 0) ORDER BY first_seq LIMIT 1",
        {"skip": skip},
    )
    if row is None:
        return None
    first_seq, next_seq, last_seq = row
    return Segment(first_seq=first_seq, next_seq=next_seq, last_seq=last_seq)


def accepted(seq: str) -> str:
    """Return an SQL condition: whether there is a task of this number for everybody. The table ``state`` is joined to it, outer."""
    last_seq = f"SELECT last_seq FROM segment WHERE first_seq <= {seq} ORDER BY first_seq DESC LIMIT 1"
    return f"(state.seq IS NOT NULL OR coalesce({seq} <= ({last_seq}), FALSE))"


#: The same for ``task.seq``, for those who read: before an insertion that is under way all are accepted, which saves most of the looks.
ACCEPTED = (
    "(task.seq < coalesce((SELECT first_seq FROM insertion WHERE accepted_at IS NULL), task.seq + 1) "
    f"OR {accepted('task.seq')})"
)


def next_seq(database: Database) -> int:
    """Return the first number beyond all that are taken: by tasks, by segments whose last tasks were dropped, by an insertion under way."""
    return 1 + int(
        database.value(
            "SELECT max(coalesce((SELECT max(seq) FROM task), 0), "
            "coalesce((SELECT last_seq FROM segment ORDER BY first_seq DESC LIMIT 1), 0), "
            "coalesce((SELECT last_seq FROM insertion WHERE accepted_at IS NULL), 0))"
        )
    )
