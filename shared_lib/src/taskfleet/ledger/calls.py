"""Inserts the calls of a graph: tasks of any function that may wait for others.

Unlike a table, calls are inserted in batches that are visible at once. A call whose id the job has already is the same task and is left as
it is, so a script that is run again adds what is new. Two drivers of one script may insert at the same time.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from taskfleet.errors import InsertError
from taskfleet.ledger import managers
from taskfleet.ledger.call_dependencies import Dependencies, Parents
from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.edges import Needs
from taskfleet.ledger.function_graph import LOADED_NAME, record_functions
from taskfleet.ledger.releasing import Follow, note
from taskfleet.ledger.segments import next_seq
from taskfleet.ledger.transitions import changing

#: The minimum number of consecutive calls without parents that are stored as a segment, like the rows of a table.
FEWEST_OF_SEGMENT = 1000


class Call(NamedTuple):
    """A call to insert."""

    id: str
    data: str
    """The keyword arguments, JSON; see ``arguments`` for those that are results of other tasks."""
    function_id: int
    parents: tuple[Parents, ...] = ()


class InsertedCalls(NamedTuple):
    """What became of a batch."""

    seqs: list[int]
    """The number of each call's task."""
    added: int
    """The number of new tasks."""


def known_functions(database: Database, manager: int = 0) -> dict[str, str]:
    """Return the names by which workers load the functions of a manager, and the versions that their apps declare, or empty texts."""
    return dict(
        database.rows(
            f"SELECT {LOADED_NAME}, coalesce(json_extract(options, '$.version'), '') FROM function WHERE manager_id = ? "
            "ORDER BY function_id",
            (manager,),
        )
    )


def most_processes(database: Database, manager: int = 0) -> int:
    """Return the highest number of MPI processes that call a function of a manager; 0 if none do."""
    return (
        database.value("SELECT max(json_extract(options, '$.mpi')) FROM function WHERE manager_id = ?", (manager,)) or 0
    )


def register_function(
    database: Database, name: str, version: str | None = None, manager: str = "", mpi: int | None = None
) -> int:
    """Return the number of a function, which is entered if it is new.

    Args:
        database: The job's ledger.
        name: Its name.
        version: The version that its app declares now.
        manager: The manager that runs its tasks from now on; empty for the default one.
        mpi: How many MPI processes call it from now on; None for a call without MPI.
    """
    options = json.dumps(({"version": version} if version else {}) | ({"mpi": mpi} if mpi else {}))
    return register_by_value(database, name, options, manager)


def register_stored(database: Database, name: str, options: str, manager: str) -> int:
    """Return the number of a function that is stored as a file; it is entered with its options (a JSON object) if it is new."""
    return _managed(database, _register(database, name, options, "NOTHING"), manager)


def register_by_value(database: Database, name: str, options: str, manager: str) -> int:
    """Return the number of a function by value, whose options (a JSON object) have the name by which workers load it as ``stored``."""
    return _managed(database, _register(database, name, options, "UPDATE SET options = excluded.options"), manager)


def _managed(database: Database, function_id: int, manager: str) -> int:
    managers.set_manager(database, function_id, manager)
    return function_id


def stored_as(database: Database, name: str) -> str:
    """Return the name by which workers load a function by value; an empty text if the job does not have it."""
    return database.value("SELECT json_extract(options, '$.stored') FROM function WHERE name = ?", (name,)) or ""


def function_number(database: Database, name: str) -> int:
    """Return the number of a function, which is entered if no script has."""
    return _register(database, name, "{}", "NOTHING")


def _register(database: Database, name: str, options: str, on_conflict: str) -> int:
    with database.transaction():
        database.execute(
            f"INSERT INTO function (name, options) VALUES (?, ?) ON CONFLICT DO {on_conflict}", (name, options)
        )
        function_id: int = database.value("SELECT function_id FROM function WHERE name = ?", (name,))
    return function_id


def depend(database: Database, seq: int, parents: Sequence[int]) -> tuple[int, bool]:
    """Let a task depend on others in addition, in a transaction.

    Returns:
        How many of them have not succeeded, and whether any will not.
    """
    known = database.rows(
        "SELECT parent FROM edge WHERE parent IN (SELECT value FROM json_each(?)) AND child = ?",
        (as_json(parents), seq),
    )
    dependencies = Dependencies(database, seq)
    for parent in set(parents) - {parent for (parent,) in known}:
        dependencies.add(parent, parent, seq, Needs.SUCCESS)
    missing, broken = dependencies.write(dict(database.rows("SELECT seq, function_id FROM task WHERE seq = ?", (seq,))))
    return missing[seq], bool(broken)


def register_map(database: Database, map_id: str, runs: Sequence[tuple[int, int]]) -> None:
    """Enter a map under its id, so that calls can refer to its results."""
    with database.transaction():
        database.execute(
            "INSERT INTO task_map (map_id, runs) VALUES (?, ?) ON CONFLICT DO NOTHING", (map_id, json.dumps(runs))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBatch:
    """Calls to insert, as columns. Each has another id."""

    ids: Sequence[str]
    data: Sequence[str]
    """See ``Call``."""
    function_ids: Sequence[int]
    """The function of each call."""
    parents: Sequence[tuple[Parents, ...]] = ()
    """Of each call; empty if no call has any."""
    pairs: Sequence[int] = ()
    """One more parent for each call, in their order; empty for none."""
    pairs_need: int = Needs.SUCCESS
    """What the calls need of these parents."""
    common: Sequence[Parents] = ()
    """Parents that all calls have."""


def insert_calls(
    database: Database,
    calls: Sequence[Call],
    *,
    pairs: Sequence[int] = (),
    pairs_need: int = Needs.SUCCESS,
    common: Sequence[Parents] = (),
) -> InsertedCalls:
    """Insert some calls; see ``insert_batch`` and ``CallBatch``."""
    return insert_batch(
        database,
        CallBatch(
            ids=[call.id for call in calls],
            data=[call.data for call in calls],
            function_ids=[call.function_id for call in calls],
            parents=[call.parents for call in calls] if any(call.parents for call in calls) else (),
            pairs=pairs,
            pairs_need=pairs_need,
            common=common,
        ),
    )


def insert_batch(database: Database, batch: CallBatch) -> InsertedCalls:
    """Insert a batch of calls in one transaction. At most 50,000 at once keep other writers waiting for a quarter of a second.

    Raises:
        InsertError: An id belongs to a task of a table.
    """
    if not batch.ids:
        return InsertedCalls([], 0)
    with changing(database) as change:
        first_new = next_seq(database)
        seqs = _insert_tasks(database, batch, first_new)
        fresh: Sequence[int] = range(len(seqs))
        new_seqs, new_functions = seqs, batch.function_ids
        if not _are_all_new(seqs, first_new):
            fresh = [index for index, seq in enumerate(seqs) if seq >= first_new]
            if not fresh:
                return InsertedCalls(seqs, 0)
            new_seqs, new_functions = [seqs[i] for i in fresh], [batch.function_ids[i] for i in fresh]
        record_functions(database, new_seqs, new_functions)
        dependencies = Dependencies(database, first_new)
        for index in fresh if batch.parents else ():
            for one in batch.parents[index]:
                first, last = (seqs[-one.first - 1],) * 2 if one.first < 0 else (one.first, one.last)
                dependencies.add(first, last, seqs[index], one.needs)
        if batch.pairs:
            dependencies.add_pairs([batch.pairs[i] for i in fresh], new_seqs, batch.pairs_need)
        for one in batch.common:
            dependencies.add_common(one, first_new, new_seqs[-1])
        missing, broken = dependencies.write(dict(zip(new_seqs, new_functions, strict=True)))
        managed = managers.by_function(database)
        runs = [(first_new, new_seqs[-1])]  # new tasks have consecutive numbers
        if missing or managed:
            runs = as_runs(seqs[i] for i in fresh if seqs[i] not in missing and batch.function_ids[i] not in managed)
        segments = [(first, last) for first, last in runs if last - first + 1 >= FEWEST_OF_SEGMENT]
        change.accept(segments, sum(last - first + 1 for first, last in segments))
        ready = [seq for run in runs if run not in segments for seq in range(run[0], run[1] + 1)]
        ready += [seq for seq, n in missing.items() if n == 0]
        ready += [seqs[i] for i in fresh if managed and seqs[i] not in missing and batch.function_ids[i] in managed]
        change.accept_calls([item for item in missing.items() if item[1]], ready)
        if managed:
            managers.copy_to_tasks(database, first_new, new_seqs[-1])
        note(database, broken, Follow.PARENTS)
    return InsertedCalls(seqs, len(fresh))


def _insert_tasks(database: Database, batch: CallBatch, first_new: int) -> list[int]:
    """Insert the calls that are new, as tasks numbered from ``first_new`` on; return the number of each call's task."""
    ids = batch.ids
    if not _known(database, [ids[0], ids[-1]]):  # perhaps all are new
        seqs = list(range(first_new, first_new + len(ids)))
        if _enter(database, batch, seqs, first_new) == len(ids):
            return seqs
        database.execute(
            "DELETE FROM task_id WHERE id IN (SELECT id FROM task WHERE seq >= ?1) AND seq >= ?1", (first_new,)
        )
        database.execute("DELETE FROM task WHERE seq >= ?", (first_new,))
    known = _known(database, ids)
    number = first_new
    seqs = []
    for task_id in ids:
        seq = known.get(task_id, number)
        if seq is None:
            raise InsertError(f"The id {task_id!r} belongs to a task of a table. Choose another JOB_ID for the graph.")
        seqs.append(seq)
        number += seq == number
    _enter(database, batch, seqs, first_new)
    return seqs


def _enter(database: Database, batch: CallBatch, seqs: Sequence[int], first_new: int) -> int:
    """Insert the tasks with new numbers, and their ids unless they exist; return how many ids were entered.

    A single statement enters the ids, in their order, in a third of the time of one for each.
    """
    rows = zip(seqs, batch.ids, batch.data, batch.function_ids, strict=True)
    database.execute_many(
        "INSERT INTO task (seq, id, data, function_id) VALUES (?, ?, ?, ?)",
        rows if _are_all_new(seqs, first_new) else [row for row in rows if row[0] >= first_new],
    )
    return database.execute(
        "INSERT OR IGNORE INTO task_id (id, seq) SELECT id, seq FROM task WHERE seq >= ? ORDER BY id", (first_new,)
    ).rowcount


def _are_all_new(seqs: Sequence[int], first_new: int) -> bool:
    """Return whether all tasks are new, so that their numbers are consecutive."""
    return seqs[-1] == first_new + len(seqs) - 1


def _known(database: Database, ids: Sequence[str]) -> dict[str, int | None]:
    """Return the numbers of the tasks that the job has already, by their ids; None for a task of a table."""
    return dict(
        database.rows(
            "SELECT task_id.id, iif(task.function_id = 0, NULL, task_id.seq) FROM json_each(?) "
            "JOIN task_id ON task_id.id = json_each.value JOIN task ON task.seq = task_id.seq",
            (json.dumps(ids),),
        )
    )


def as_runs(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """Return numbers as runs of consecutive ones: (first, last), in their order."""
    runs: list[tuple[int, int]] = []
    first = last = -1
    for seq in seqs:
        if runs and seq == last + 1:
            runs[-1] = (first, seq)
        else:
            first = seq
            runs.append((seq, seq))
        last = seq
    return runs
