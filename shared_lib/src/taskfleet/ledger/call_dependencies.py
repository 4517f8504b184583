"""Writes what new tasks depend on, as edges and links, and counts what they wait for."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.edges import Needs, Shape
from taskfleet.ledger.function_graph import record_edges
from taskfleet.ledger.releasing import Follow
from taskfleet.tasks import State

#: The minimum number of dependencies of one shape that are stored as a link; fewer are stored as edges.
FEWEST_OF_LINK = 8
_ENDED = f"({State.SUCCEEDED}, {State.FAILED}, {State.KILLED})"


class Parents(NamedTuple):
    """Tasks with consecutive numbers that a call waits for. The number -n stands for the n-th call of the same batch."""

    first: int
    last: int
    needs: int = Needs.SUCCESS


class Dependencies:
    """The dependencies of one batch of new tasks."""

    def __init__(self, database: Database, first_new: int) -> None:
        self._database = database
        self._first_new = first_new
        self._edges: dict[tuple[int, int], int] = {}
        self._links: list[tuple[int, int, int, int, int, int]] = []

    def add(self, first: int, last: int, child: int, needs: int) -> None:
        """Let a task wait for a run of others."""
        if last - first + 1 >= FEWEST_OF_LINK:
            self._links.append((Shape.ALL_TO_ONE, first, last, child, child, needs))
            return
        for parent in range(first, last + 1):
            self._edges[parent, child] = min(needs, self._edges.get((parent, child), needs))

    def add_pairs(self, parents: Sequence[int], children: Sequence[int], needs: int) -> None:
        """Let each task wait for one other."""
        start = 0
        while start < len(children):
            end = start + 1
            while (
                end < len(children) and parents[end] - parents[start] == end - start == children[end] - children[start]
            ):
                end += 1
            if end - start >= FEWEST_OF_LINK:
                last = end - 1
                self._links.append((Shape.PAIRS, parents[start], parents[last], children[start], children[last], needs))
            else:
                for index in range(start, end):
                    self.add(parents[index], parents[index], children[index], needs)
            start = end

    def add_common(self, parents: Parents, first_child: int, last_child: int) -> None:
        """Let a run of tasks wait for the same others."""
        for parent in range(parents.first, parents.last + 1):
            if last_child - first_child + 1 >= FEWEST_OF_LINK:
                self._links.append((Shape.ONE_TO_ALL, parent, parent, first_child, last_child, parents.needs))
            else:
                for child in range(first_child, last_child + 1):
                    self.add(parent, parent, child, parents.needs)

    def write(self, functions: Mapping[int, int]) -> tuple[Counter[int], list[int]]:
        """Write them; return the number of parents that each task with any waits for, and the tasks with parents that will not succeed.

        Args:
            functions: The functions of the new tasks, by the tasks' numbers.
        """
        database = self._database
        record_edges(database, self._edges, functions)
        for _, first_parent, last_parent, first_child, _, needs in self._links:
            record_edges(database, {(parent, first_child): needs for parent in (first_parent, last_parent)}, functions)
        database.execute_many(
            "INSERT INTO edge (parent, child, needs) VALUES (?, ?, ?)",
            sorted((parent, child, needs) for (parent, child), needs in self._edges.items()),
        )
        database.execute_many(
            "INSERT INTO link (shape, first_parent, last_parent, first_child, last_child, needs) VALUES (?, ?, ?, ?, ?, ?)",
            self._links,
        )
        missing: Counter[int] = Counter()
        broken: set[int] = set()
        ended = self._ended(f"seq IN (SELECT value FROM json_each({_quoted(parent for parent, _ in self._edges)}))")
        if ended.is_empty:
            missing.update(child for _, child in self._edges)
        else:
            for (parent, child), needs in self._edges.items():
                missing[child] += ended.need(parent, needs)
                if ended.is_broken(parent, needs):
                    broken.add(child)
        for shape, first_parent, last_parent, first_child, last_child, needs in self._links:
            ended = self._ended(f"seq BETWEEN {first_parent} AND {last_parent}")
            if shape == Shape.PAIRS and ended.is_empty:
                missing.update(range(first_child, last_child + 1))
            elif shape == Shape.PAIRS:
                for parent, child in zip(
                    range(first_parent, last_parent + 1), range(first_child, last_child + 1), strict=True
                ):
                    missing[child] += ended.need(parent, needs)
                    if ended.is_broken(parent, needs):
                        broken.add(child)
            else:
                n = ended.need_of_run(first_parent, last_parent, needs)
                children = range(first_child, last_child + 1)
                for child in children:
                    missing[child] += n
                if any(ended.is_broken(parent, needs) for parent in ended.states):
                    broken.update(children)
        return missing, sorted(broken)

    def _ended(self, condition: str) -> "Ended":
        """Return which of some parents have ended, and what their children still have to follow."""
        database = self._database
        states = database.rows(f"SELECT seq, state FROM state WHERE {condition} AND state IN {_ENDED}")
        noted = database.rows(f"SELECT seq, what FROM frontier WHERE {condition}")
        return Ended(dict(states), noted)


class Ended:
    """Parents that have ended."""

    def __init__(self, states: dict[int, int], noted: Sequence[tuple[int, int]]) -> None:
        self.states = states
        self._noted: Counter[tuple[int, int]] = Counter(noted)

    @property
    def is_empty(self) -> bool:
        """Whether none has ended."""
        return not self.states and not self._noted

    def need(self, parent: int, needs: int) -> int:
        """Return what a dependency adds to the number of a new task; children follow later what is noted of the parent."""
        return int(not self._is_there(parent, needs)) + self._to_follow(parent, needs)

    def need_of_run(self, first: int, last: int, needs: int) -> int:
        """Return the same for the dependencies on a run of parents."""
        there = sum(self._is_there(parent, needs) for parent in self.states)
        return (
            last - first + 1 - there + sum(self._to_follow(parent, needs) for parent in {seq for seq, _ in self._noted})
        )

    def is_broken(self, parent: int, needs: int) -> bool:
        """Return whether the parent will not succeed, although its child needs that."""
        return parent in self.states and not self._is_there(parent, needs)

    def _is_there(self, parent: int, needs: int) -> bool:
        state = self.states.get(parent)
        return state == State.SUCCEEDED or (state is not None and needs == Needs.END)

    def _to_follow(self, parent: int, needs: int) -> int:
        noted = self._noted
        less = noted[parent, Follow.SUCCESS] - noted[parent, Follow.RERUN] - noted[parent, Follow.RERUN_ALL]
        if needs == Needs.END:
            less += noted[parent, Follow.FAILURE] + noted[parent, Follow.KILL] - noted[parent, Follow.REVIVAL]
        return less


def _quoted(seqs: Iterable[int]) -> str:
    return f"'{as_json(set(seqs))}'"
