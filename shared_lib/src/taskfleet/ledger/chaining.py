"""Chains: tasks that the worker of their only parent sends, so that they go on without the ledger.

A task is sent with the chain below it (``messages.chains``), whose tasks are in the table ``chained`` until they are released or end.
When a parent succeeds, the ledger sends its child like any other, unless a worker has reported that it sent it: then its message is in the
queue. A report counts only if the task is in the table, and in the same *epoch*: a purge of the queue or a move to another one begins a new
one (``Transitions.start_epoch``), because what was sent before is gone. In doubt a task is sent twice, never not at all. The control
document has the epoch, so that workers do not go on with a chain of an earlier one: it may have gone further than the ledger knows.

Only tasks that have never been released are in chains: the parent has never succeeded, and the child has had no attempt.
"""

from collections.abc import Iterable, Sequence

from taskfleet.ledger import attempts, edges
from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.function_graph import LOADED_NAME
from taskfleet.messages import chains
from taskfleet.messages.chains import Chain, ChainTask
from taskfleet.messages.tasks import QueuedTask
from taskfleet.tasks import State

#: The chain of a task takes at most this many bytes in a message; what is below it is sent by the ledger, with its own chain.
MOST_BYTES = 400_000
#: The total in which epochs are counted.
EPOCH = "chain_epoch"
#: Tasks that wait for one other and have had no attempt.
_UNTOUCHED = f"state = {State.WAITING} AND missing = 1 AND attempt = 0"


def with_chains(database: Database, tasks: Sequence[QueuedTask]) -> list[QueuedTask]:
    """Return tasks that are to be sent with the chains below them; the ledger is only read."""
    if not edges.exist(database):
        return list(tasks)
    found: dict[int, list[ChainTask]] = {}
    sizes: dict[int, int] = {}
    ends = {  # by the last task of a chain: the first one, and what the next has to have
        seq: (seq, task_id, manager)
        for seq, task_id, manager in database.rows(
            "SELECT task.seq, task.id, function.manager_id FROM json_each(?) JOIN task ON task.seq = value "
            f"JOIN function USING (function_id) WHERE ({attempts.results_of('task.seq')} LIMIT 1) IS NULL",
            (as_json([task.seq for task in tasks if task.function]),),
        )
    }
    while ends:
        parents = {child: parent for parent, child in edges.only_children(database, sorted(ends)).items()}
        longer = {}
        for seq, task_id, function, data, manager in database.rows(
            f"SELECT task.seq, task.id, {LOADED_NAME}, data, function.manager_id FROM json_each(?) JOIN state ON state.seq = value "
            f"JOIN task ON task.seq = value JOIN function USING (function_id) WHERE {_UNTOUCHED}",
            (as_json(sorted(parents)),),
        ):
            first, parent_id, managed_by = ends[parents[seq]]
            task = ChainTask(seq, task_id, function, data)
            size = sizes.get(first, 0) + chains.most_bytes(task)
            if chains.only_parent(data) == parent_id and manager == managed_by and size <= MOST_BYTES:
                sizes[first] = size
                found.setdefault(first, []).append(task)
                longer[seq] = (first, task_id, manager)
        ends = longer
    return [task._replace(chain=Chain(tasks=tuple(found[task.seq]))) if task.seq in found else task for task in tasks]


def record(database: Database, tasks: Sequence[QueuedTask]) -> list[QueuedTask]:
    """Record the chains of tasks that will be sent now; return the tasks, their chains without what has changed meanwhile."""
    if not any(task.chain.tasks for task in tasks):
        return list(tasks)
    with database.transaction():
        seqs = [one.seq for task in tasks for one in task.chain.tasks]
        untouched = {
            seq
            for (seq,) in database.rows(
                f"SELECT seq FROM json_each(?) JOIN state ON seq = value WHERE {_UNTOUCHED}", (as_json(seqs),)
            )
        }
        epoch = current_epoch(database)
        chained = [_checked(task, untouched, epoch) for task in tasks]
        database.execute_many(
            "INSERT OR IGNORE INTO chained (seq, parent) VALUES (?, ?)",
            [
                (one.seq, parent)
                for task in chained
                for parent, one in zip(
                    [task.seq, *(one.seq for one in task.chain.tasks)], task.chain.tasks, strict=False
                )
            ],
        )
    return chained


def _checked(task: QueuedTask, untouched: set[int], epoch: int) -> QueuedTask:
    tasks = task.chain.tasks
    n = next((index for index, one in enumerate(tasks) if one.seq not in untouched), len(tasks))
    return task._replace(chain=Chain(epoch, tasks[:n]))


def current_epoch(database: Database) -> int:
    """Return the epoch of the chains that go on."""
    return int(database.value("SELECT n FROM tally WHERE name = ?", (EPOCH,)) or 0)


# --- in a transaction of the caller ---


def note_sent(database: Database, reported: Iterable[tuple[int, int]]) -> None:
    """Note that workers sent tasks of chains: (number, epoch)."""
    if reported := list(reported):
        epoch = current_epoch(database)
        database.execute_many(
            "UPDATE chained SET is_sent = 1 WHERE seq = ?", [(seq,) for seq, of_epoch in reported if of_epoch == epoch]
        )


def take_unsent(database: Database, seqs: Sequence[int]) -> Sequence[int]:
    """Remove tasks that were released from the table; return those that no worker has sent."""
    if not seqs or not _exist(database):
        return seqs
    rows = database.rows(
        "DELETE FROM chained WHERE seq IN (SELECT value FROM json_each(?)) RETURNING seq, is_sent", (as_json(seqs),)
    )
    sent = {seq for seq, is_sent in rows if is_sent}
    return [seq for seq in seqs if seq not in sent]


def forget(database: Database, seqs: Sequence[int]) -> None:
    """Remove tasks whose message is gone, because they have ended: if they are released later, the ledger sends them."""
    if seqs and _exist(database):
        database.execute_many("DELETE FROM chained WHERE seq = ?", [(seq,) for seq in seqs])


def forget_children(database: Database, parents: Sequence[int]) -> None:
    """Remove the tasks below these, whose results do not count."""
    database.execute("DELETE FROM chained WHERE parent IN (SELECT value FROM json_each(?))", (as_json(parents),))


def _exist(database: Database) -> bool:
    return bool(database.value("SELECT EXISTS (SELECT 1 FROM chained)"))
