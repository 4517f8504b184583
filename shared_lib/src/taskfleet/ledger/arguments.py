"""The arguments of tasks that are results of other tasks.

The data of a graph's task are JSON in which three kinds of objects stand for results: ``{"$task":ID}`` for that of a task,
``{"$results":MAP}`` for the list of those of a map, and ``{"$succeeded":MAP}`` for the list without those of tasks that did not succeed. As
every text in JSON has its quotation marks escaped, they are found and replaced without parsing the rest. A user's own dict of this form is
written as ``{"$dict":…}``.
"""

import json
import re
from collections.abc import Container, Sequence

from taskfleet.errors import UnusableLedgerError
from taskfleet.ledger.attempts import results_of
from taskfleet.ledger.database import Database
from taskfleet.ledger.edges import Needs
from taskfleet.messages.chains import REFERENCE
from taskfleet.tasks import State

#: The latest result of a task by its number.
_RESULT = f"{results_of('seq')} LIMIT 1"


def fill(database: Database, data: Sequence[str]) -> list[str]:
    """Return the data of tasks with the results in place of the tasks.

    Raises:
        UnusableLedgerError: A task has no result.
    """
    ids = {name for text in data for kind, name in REFERENCE.findall(text) if kind == "task"}
    results: dict[str, str | None] = dict(
        database.rows(
            f"SELECT task_id.id, ({_RESULT}) FROM json_each(?) JOIN task_id ON task_id.id = json_each.value",
            (json.dumps(list(ids)),),
        )
        if ids
        else ()
    )

    def replace(found: re.Match[str]) -> str:
        kind, name = found.groups()
        if kind != "task":
            return f"[{','.join(_results(database, name, are_all_needed=kind == 'results'))}]"
        result = results.get(name)
        if result is None:
            raise _lacks_result(name)
        return result if '{"$' not in result else fill(database, [result])[0]  # of a task that returned calls

    return [REFERENCE.sub(replace, text) for text in data]


def task_ids(data: str) -> list[str]:
    """Return the ids of the single tasks in the data of a task."""
    return [name for kind, name in REFERENCE.findall(data) if kind == "task"]


def parents(database: Database, data: str, *, without: Container[str] = ()) -> list[tuple[int, int, Needs]]:
    """Return the tasks in the data of a task: (first number, last number, what it needs) of runs of consecutive tasks.

    Args:
        database: The job's ledger.
        data: The data.
        without: The ids of single tasks that are left out.
    """
    found: list[tuple[int, int, Needs]] = []
    for kind, name in REFERENCE.findall(data):
        if kind == "task" and name in without:
            continue
        if kind == "task":
            seq = database.value("SELECT seq FROM task_id WHERE id = ?", (name,))
            found.append((seq, seq, Needs.SUCCESS))
        else:
            needs = Needs.SUCCESS if kind == "results" else Needs.END
            found += [(first, last, needs) for first, last in runs(database, name)]
    return found


def runs(database: Database, map_id: str) -> Sequence[tuple[int, int]]:
    """Return the numbers of the tasks of a map: (first, last) of runs of consecutive tasks, in the order of the map."""
    text = database.value("SELECT runs FROM task_map WHERE map_id = ?", (map_id,))
    if text is None:
        raise UnusableLedgerError(f"The ledger does not have the map {map_id!r} that a task refers to: it is damaged.")
    return [(first, last) for first, last in json.loads(text)]


def _results(database: Database, map_id: str, *, are_all_needed: bool) -> list[str]:
    found: list[str] = []
    for first, last in runs(database, map_id):
        rows = database.rows(
            f"SELECT ({_RESULT}) FROM state WHERE seq BETWEEN ? AND ? AND state = {State.SUCCEEDED} ORDER BY seq",
            (first, last),
        )
        if are_all_needed and len(rows) < last - first + 1:
            raise _lacks_result(f"of the map {map_id}")
        found += [result for (result,) in rows]
    return fill(database, found) if any('{"$' in result for result in found) else found


def _lacks_result(name: str) -> UnusableLedgerError:
    return UnusableLedgerError(f"The ledger has no result of the task {name}, which another task needs: it is damaged.")
