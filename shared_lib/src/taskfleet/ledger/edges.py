"""Reads which tasks depend on which: single edges, and links between runs of consecutive tasks.

A link has one of three shapes. ``PAIRS``: each child has one parent, in their order (a map over a map). ``ALL_TO_ONE``: one child has all
parents of the run (a reduce). ``ONE_TO_ALL``: all children of the run have one parent.
"""

import heapq
import itertools
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from taskfleet.ledger.database import Database, as_json


class Shape(IntEnum):
    """The shape of a link. The numbers are stored in the ledger and never change."""

    PAIRS = 0
    ALL_TO_ONE = 1
    ONE_TO_ALL = 2


class Needs(IntEnum):
    """What a child waits for. The numbers are stored in the ledger and never change."""

    SUCCESS = 0
    """The success of its parent; if that fails, the child fails too."""
    END = 1
    """The end of its parent, successful or not."""


class Link(NamedTuple):
    """The dependencies between two runs of tasks."""

    shape: int
    first_parent: int
    last_parent: int
    first_child: int
    last_child: int
    needs: int

    def children_of(self, parent: int) -> range:
        """Return the children of one of its parents."""
        if self.shape == Shape.PAIRS:
            child = self.first_child + parent - self.first_parent
            return range(child, child + 1)
        return range(self.first_child, self.last_child + 1)


_LINK = ", ".join(Link._fields)


def exist(database: Database) -> bool:
    """Return whether any task depends on another."""
    return bool(database.value("SELECT EXISTS (SELECT 1 FROM edge) OR EXISTS (SELECT 1 FROM link)"))


def any_needs_end(database: Database) -> bool:
    """Return whether any task waits for the end of another, successful or not."""
    return bool(
        database.value(
            "SELECT EXISTS (SELECT 1 FROM edge WHERE needs = 1) OR EXISTS (SELECT 1 FROM link WHERE needs = 1)"
        )
    )


def links_of(database: Database, first: int, last: int) -> list[Link]:
    """Return the links that have a parent in a range of numbers."""
    rows = database.rows(f"SELECT {_LINK} FROM link WHERE last_parent >= ? AND first_parent <= ?", (first, last))
    return [Link._make(row) for row in rows]


def count_children(database: Database, parents: Sequence[int], most: int) -> int:
    """Return the number of edges to children of these tasks; ``most`` if it is that or higher."""
    if not parents:
        return 0
    n: int = database.value(
        "SELECT count(*) FROM (SELECT 1 FROM json_each(?) JOIN edge ON edge.parent = json_each.value LIMIT ?)",
        (as_json(parents), most),
    )
    for link in links_of(database, min(parents), max(parents)) if n < most else ():
        n += sum(len(link.children_of(seq)) for seq in parents if link.first_parent <= seq <= link.last_parent)
        if n >= most:
            return most
    return n


def only_children(database: Database, parents: Sequence[int]) -> dict[int, int]:
    """Return the child of each of some tasks that have exactly one."""
    found: dict[int, set[int]] = {}
    for parent, *some in database.rows(
        "SELECT value, (SELECT child FROM edge WHERE parent = value ORDER BY child LIMIT 1), "
        "(SELECT child FROM edge WHERE parent = value ORDER BY child DESC LIMIT 1) FROM json_each(?)",
        (as_json(parents),),
    ):
        found[parent] = {child for child in some if child is not None}
    for link in links_of(database, min(parents), max(parents)) if parents else ():
        for parent in parents:
            if link.first_parent <= parent <= link.last_parent:
                found[parent].update(link.children_of(parent)[:2])
    return {parent: min(some) for parent, some in found.items() if len(some) == 1}


def with_children(database: Database, seqs: Sequence[int]) -> list[int]:
    """Return those of some tasks that have children."""
    if not seqs:
        return []
    found = {
        seq
        for (seq,) in database.rows(
            "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM edge WHERE edge.parent = value)",
            (as_json(seqs),),
        )
    }
    for link in links_of(database, min(seqs), max(seqs)):
        found.update(seq for seq in seqs if link.first_parent <= seq <= link.last_parent)
    return [seq for seq in seqs if seq in found]


def linked(database: Database, parents: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the dependencies on tasks that are in links: (parent, child, what it needs)."""
    for link in links_of(database, min(parents), max(parents)) if parents else ():
        for seq in parents:
            if link.first_parent <= seq <= link.last_parent:
                for child in link.children_of(seq):
                    yield seq, child, link.needs


def dependencies(database: Database, parents: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return the dependencies on tasks: (parent, child, what it needs)."""
    in_edges = database.rows(
        "SELECT edge.parent, child, needs FROM json_each(?) JOIN edge ON edge.parent = json_each.value",
        (as_json(parents),),
    )
    return [*in_edges, *linked(database, parents)]


def children(database: Database, parent: int, after: int, most: int) -> list[tuple[int, int]]:
    """Return the first children of a task with numbers above ``after``: (number, what it needs), one for each dependency.

    Args:
        database: The ledger.
        parent: The task.
        after: The number.
        most: The maximum number of different children.
    """
    in_edges = database.rows(
        "SELECT child, needs FROM edge WHERE parent = ? AND child > ? ORDER BY child LIMIT ?", (parent, after, most)
    )
    in_links = [
        zip(range(max(after + 1, of_link.start), of_link.stop), itertools.repeat(link.needs))
        for link in links_of(database, parent, parent)
        if (of_link := link.children_of(parent)).stop > after + 1
    ]
    found: list[tuple[int, int]] = []
    last = after
    for child, needs in heapq.merge(in_edges, *in_links):
        if child != last:
            if not most:
                break
            most -= 1
            last = child
        found.append((child, needs))
    return found
