"""Managers: each runs the tasks of its functions with workers of its own. 0 is the default one, which also runs the tasks of tables.

``state.manager_id`` repeats that of a task's function, so that a worker finds what it may lease without looking at the tasks of others.
The calls of functions with a manager are in no segment.
"""

from collections.abc import Set

from taskfleet.ledger import counters
from taskfleet.ledger.database import Database
from taskfleet.ledger.function_graph import LOADED_NAME
from taskfleet.ledger.transitions import changing
from taskfleet.tasks import State


def number_of(database: Database, name: str) -> int:
    """Return the number of a manager, which is entered if it is new; 0 for the empty name."""
    if not name:
        return 0
    with database.transaction():
        return enter(database, name)


def enter(database: Database, name: str) -> int:
    """Do the same as ``number_of``, in a transaction."""
    if not name:
        return 0
    database.execute("INSERT INTO manager (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    number: int = database.value("SELECT manager_id FROM manager WHERE name = ?", (name,))
    return number


def names(database: Database) -> dict[int, str]:
    """Return the names of all managers that the job has had, except the default one, by their numbers."""
    return dict(database.rows("SELECT manager_id, name FROM manager ORDER BY manager_id"))


def by_function(database: Database) -> dict[int, int]:
    """Return the managers of the functions that have one, by the numbers of both."""
    return dict(database.rows("SELECT function_id, manager_id FROM function WHERE manager_id > 0"))


def names_by_function(database: Database) -> dict[str, str]:
    """Return the names of the managers of the functions that have one, by the names by which workers load the functions."""
    found = names(database)
    rows = database.rows(f"SELECT {LOADED_NAME}, manager_id FROM function WHERE manager_id > 0") if found else ()
    return {function: found[manager_id] for function, manager_id in rows}


def of_task(database: Database, seq: int) -> str:
    """Return the name of the manager that runs a task; empty for the default one."""
    return (
        database.value(
            "SELECT manager.name FROM task JOIN function USING (function_id) JOIN manager USING (manager_id) WHERE seq = ?",
            (seq,),
        )
        or ""
    )


def pending(database: Database) -> dict[int, int]:
    """Return the number of pending tasks of each manager that has some, by its number."""
    found: dict[int, int] = dict(
        database.rows(
            "SELECT manager_id, (SELECT count(*) FROM state WHERE state.manager_id = manager.manager_id "
            f"AND state = {State.PENDING}) FROM manager"
        )
    )
    found[0] = counters.by_state(database)[State.PENDING] - sum(found.values())
    return {number: n for number, n in found.items() if n}


def unattended(database: Database, attended: Set[int]) -> dict[int, int]:
    """Return the number of pending tasks of each manager that has some and no worker, by its number.

    Args:
        database: The job's ledger.
        attended: The numbers of the managers that have workers.
    """
    if not {0, *names(database)} - attended:  # counting takes some tenths of a second for a million tasks
        return {}
    return {number: n for number, n in pending(database).items() if number not in attended}


def runnable(database: Database) -> dict[int, int]:
    """Return the number of pending and running tasks of each manager that has some, by its number."""
    counts = counters.by_state(database)
    found = {0: counts[State.PENDING] + counts[State.RUNNING]}
    if names(database):
        found = pending(database)
        running: dict[int, int] = dict(
            database.rows(
                "SELECT worker.manager_id, count(*) FROM worker JOIN state ON state.worker_id = worker.worker_id "
                f"AND state = {State.RUNNING} WHERE worker.manager_id > 0 GROUP BY 1"
            )
        )
        running[0] = counts[State.RUNNING] - sum(running.values())
        found = {number: found.get(number, 0) + running.get(number, 0) for number in found.keys() | running.keys()}
    return {number: n for number, n in found.items() if n}


def left(database: Database) -> dict[int, int]:
    """Return the number of pending, running and waiting tasks of each manager that has some, by its number.

    With managers, it takes some tenths of a second for a million tasks.
    """
    counts = counters.by_state(database)
    found = {0: counts[State.PENDING] + counts[State.RUNNING] + counts[State.WAITING]}
    if names(database):
        states = f"({State.PENDING}, {State.RUNNING}, {State.WAITING})"
        found |= dict(
            database.rows(
                f"SELECT manager_id, count(*) FROM state WHERE state IN {states} AND manager_id > 0 GROUP BY 1"
            )
        )
        found[0] -= sum(n for number, n in found.items() if number)
    return {number: n for number, n in found.items() if n}


def set_manager(database: Database, function_id: int, name: str) -> None:
    """Let a manager run the tasks of a function, from now on; in a transaction, unless it does already.

    With a service queue, tasks that were sent stay in the queue that they are in. It takes some seconds for a million tasks, during which
    workers wait.
    """
    manager_id = number_of(database, name)
    if database.value("SELECT manager_id FROM function WHERE function_id = ?", (function_id,)) == manager_id:
        return
    with changing(database) as change:
        database.execute("UPDATE function SET manager_id = ? WHERE function_id = ?", (manager_id, function_id))
        for first, last in database.rows(
            "SELECT first_seq, last_seq FROM function_run WHERE function_id = ?", (function_id,)
        ):
            change.leave_segments(first, last)
            database.execute("UPDATE state SET manager_id = ? WHERE seq BETWEEN ? AND ?", (manager_id, first, last))


def copy_to_tasks(database: Database, first: int, last: int) -> None:
    """Give new tasks with these numbers, or tasks with other functions than before, the managers of their functions."""
    database.execute(
        "UPDATE state SET manager_id = (SELECT manager_id FROM task JOIN function USING (function_id) WHERE task.seq = state.seq) "
        "WHERE seq BETWEEN ? AND ? AND seq IN (SELECT seq FROM task WHERE seq BETWEEN ? AND ? AND function_id > 0)",
        (first, last, first, last),
    )
