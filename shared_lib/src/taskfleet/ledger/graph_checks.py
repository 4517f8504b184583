"""Verifies the graph in a ledger: functions, dependencies, and the number of parents that each task waits for."""

import json
from array import array
from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any

from taskfleet.ledger import edges
from taskfleet.ledger.call_dependencies import Ended
from taskfleet.ledger.database import Database
from taskfleet.ledger.edges import Link, Needs, Shape
from taskfleet.ledger.releasing import Follow
from taskfleet.tasks import Outcome, State

_SHAPES = ", ".join(str(int(shape)) for shape in Shape)
_NEEDS = ", ".join(str(int(needs)) for needs in Needs)
_FOLLOWS = ", ".join(str(int(what)) for what in Follow)
_UPSTREAM = f"(state = {State.FAILED} AND kind = {Outcome.UPSTREAM})"
_TASKS_BETWEEN = "(SELECT count(*) FROM task WHERE seq BETWEEN {0} AND {1})"


def functions(database: Database) -> Iterator[str]:
    """Yield tasks, versions and workers with functions that do not exist."""
    for seq, function_id in database.stream(
        "SELECT seq, function_id FROM task WHERE function_id <> 0 AND function_id NOT IN (SELECT function_id FROM function)"
    ):
        yield f"task {seq} calls function {function_id}, which does not exist"
    for seq, manager_id, right in database.stream(
        "SELECT task.seq, coalesce(state.manager_id, 0), coalesce(function.manager_id, 0) AS correct FROM task "
        "LEFT JOIN state USING (seq) LEFT JOIN function USING (function_id) "
        "WHERE EXISTS (SELECT 1 FROM manager) AND coalesce(state.manager_id, 0) <> correct"
    ):
        yield f"task {seq} belongs to manager {manager_id}, and its function to manager {right}"
    for table in ("function_version", "worker_code"):
        for (function_id,) in database.stream(
            f"SELECT DISTINCT function_id FROM {table} WHERE function_id NOT IN (SELECT function_id FROM function)"
        ):
            yield f"the table {table} has function {function_id}, which does not exist"


def dependencies(database: Database) -> Iterator[str]:
    """Yield dependencies that cannot be: of tasks that do not exist, on the task itself, of an unknown shape."""
    for parent, child, needs in database.stream(
        f"SELECT parent, child, needs FROM edge WHERE parent = child OR needs NOT IN ({_NEEDS}) "
        "OR NOT EXISTS (SELECT 1 FROM task WHERE seq = parent) OR NOT EXISTS (SELECT 1 FROM task WHERE seq = child)"
    ):
        if needs in list(Needs):
            yield f"task {child} depends on task {parent}, one of which does not exist, or they are the same"
        else:
            yield f"task {child} has an unknown need of task {parent}: {needs}"
    conditions = {
        f"shape NOT IN ({_SHAPES}) OR needs NOT IN ({_NEEDS})": "has an unknown shape or need",
        "first_parent > last_parent OR last_parent >= first_child OR first_child > last_child": "is in the wrong order",
        f"(shape = {Shape.PAIRS} AND last_parent - first_parent <> last_child - first_child) "
        f"OR (shape = {Shape.ALL_TO_ONE} AND first_child <> last_child) "
        f"OR (shape = {Shape.ONE_TO_ALL} AND first_parent <> last_parent)": "has numbers that do not go with its shape",
        f"{_TASKS_BETWEEN.format('first_parent', 'last_parent')} <= last_parent - first_parent "
        f"OR {_TASKS_BETWEEN.format('first_child', 'last_child')} <= last_child - first_child": "has tasks that do not exist",
    }
    for link_id, *found in database.stream(f"SELECT link_id, {', '.join(f'({one})' for one in conditions)} FROM link"):
        yield from (f"link {link_id} {text}" for text, is_so in zip(conditions.values(), found, strict=True) if is_so)
    last = database.value("SELECT max(seq) FROM task") or 0
    for map_id, text in database.stream("SELECT map_id, runs FROM task_map"):
        if not _are_runs(text, last):
            yield f"the map {map_id!r} has tasks that do not exist"
    for seq, what in database.stream(
        f"SELECT seq, what FROM frontier WHERE what NOT IN ({_FOLLOWS}) OR seq NOT IN (SELECT seq FROM task)"
    ):
        yield f"the children of task {seq} are to follow something unknown ({what}), or it does not exist"


def waiting(database: Database) -> Iterator[str]:
    """Yield tasks that wait for too many or too few others, or name the wrong cause of their failure."""
    for seq, missing in database.stream(
        f"SELECT seq, missing FROM state WHERE missing < 0 OR (missing = 0 AND state = {State.WAITING})"
    ):
        yield f"task {seq} waits for {missing} tasks" if missing else f"task {seq} waits, but for no task"
    for seq, root_seq in database.stream(
        f"SELECT seq, root_seq FROM state WHERE iif(root_seq IS NULL, {_UPSTREAM}, NOT {_UPSTREAM} AND state <> {State.KILLED})"
    ):
        yield f"task {seq} " + (
            "failed because of others, and has no cause"
            if root_seq is None
            else f"has the cause {root_seq} and did not fail of it"
        )
    for seq, root_seq in database.stream(
        "SELECT seq, root_seq FROM state WHERE root_seq NOT IN (SELECT seq FROM state)"
    ):
        yield f"the cause of task {seq} is task {root_seq}, which does not exist"
    expected = _expected(database)
    if expected is None:
        return
    for seq, missing in database.stream("SELECT seq, missing FROM state"):
        if missing != (n := expected[seq] if seq < len(expected) else 0):
            yield f"task {seq} waits for {missing} tasks, and {n} are not there"


def _expected(database: Database) -> "array[int] | None":
    """Return the number of tasks that each task waits for, by its number; None if none depends on another."""
    if not edges.exist(database):
        if database.value("SELECT EXISTS (SELECT 1 FROM state WHERE missing <> 0)"):
            return array("q")
        return None
    last = database.value("SELECT max(seq) FROM task") or 0
    found = array("q", bytes(8 * (last + 1)))
    open_for = _not_there(database, last)
    for parent, child, needs in database.stream("SELECT parent, child, needs FROM edge"):
        if 0 < parent <= last and 0 < child <= last and needs in open_for:
            found[child] += open_for[needs][parent]
    for row in database.stream(f"SELECT {', '.join(Link._fields)} FROM link"):
        link = Link._make(row)
        if 0 < link.first_parent <= link.last_parent <= last and link.last_child <= last and link.needs in open_for:
            _add_link(found, link, open_for[link.needs])
    for seq, what, after in database.stream("SELECT seq, what, after FROM frontier"):
        if what == Follow.PARTS:
            found[seq] += 1
            continue
        for child, needs in edges.children(database, seq, after, last):
            if child <= last:
                found[child] += Ended({}, [(seq, what)]).need(seq, needs) - 1
    return found


def _not_there(database: Database, last: int) -> dict[int, bytearray]:
    """Return by need, for each number of a task, 1 if what a child needs of it is not there, otherwise 0."""
    found = {int(needs): bytearray(b"\1") * (last + 1) for needs in Needs}
    there = {
        int(state): [found[needs] for needs in Needs if Ended({1: state}, ()).need(1, needs) == 0]
        for state in (State.SUCCEEDED, State.FAILED, State.KILLED)
    }
    for seq, state in database.stream("SELECT seq, state FROM state"):
        for flags in there.get(state, ()):
            flags[seq if 0 < seq <= last else 0] = 0
    return found


def _add_link(found: "array[int]", link: Link, flags: Sequence[int]) -> None:
    """Count what the children of a link wait for."""
    children = range(link.first_child, link.last_child + 1)
    of_parents = flags[link.first_parent : link.last_parent + 1]
    if link.shape == Shape.PAIRS:
        for child in compress(children, of_parents):
            found[child] += 1
    elif n := sum(of_parents):
        for child in children:
            found[child] += n


def _are_runs(text: str, last: int) -> bool:
    """Return whether a text has the runs of a map, of existing tasks."""
    try:
        runs: Any = json.loads(text)
        return all(0 < begin <= end <= last for begin, end in runs)
    except (ValueError, TypeError):
        return False
