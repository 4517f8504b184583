"""Segments: runs of accepted tasks, of which those that were never leased have no row in ``state``.

Here they are read; ``transitions`` changes them.
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
        "SELECT first_seq, next_seq, last_seq FROM segment WHERE next_seq <= last_seq AND last_seq > ? ORDER BY first_seq LIMIT 1",
        (skip,),
    )
    if row is None:
        return None
    first_seq, next_seq, last_seq = row
    return Segment(first_seq=first_seq, next_seq=next_seq, last_seq=last_seq)
