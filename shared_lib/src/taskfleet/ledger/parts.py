"""Tasks that return calls: such a task has succeeded when these have, and its result is what it returned with their results.

A worker reports what the task returned as ``{"$calls":{"value":TEXT,"calls":[[ID,FUNCTION,DATA],…]}}``, where TEXT is the JSON text of the
value with references to the calls. The task waits from then on, and a note in ``frontier`` has the calls inserted. It needs no further
attempt: it succeeds as soon as it waits for nothing (``Reuse.PARTS``).
"""

import json
from collections.abc import Sequence
from typing import Any

from taskfleet.ledger import arguments, attempts, calls
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import CallBatch
from taskfleet.ledger.database import Database
from taskfleet.ledger.transitions import changing


def insert_parts(database: Database, note_id: int, seq: int) -> None:
    """Insert the calls that a task returned, and let it wait for them.

    Args:
        database: The job's ledger.
        note_id: The note that says so; it is deleted.
        seq: The task.
    """
    key, result = attempts.last_success(database, seq)  # type: ignore[misc]  # the note belongs to one
    returned: dict[str, Any] = {"value": result, "calls": []}
    if result.startswith(attempts.PARTS):
        returned = json.loads(result)["$calls"]
    parts = _insert(database, returned["calls"])
    with changing(database) as change:
        if database.execute("DELETE FROM frontier WHERE note_id = ?", (note_id,)).rowcount != 1:
            return  # another process was faster
        database.execute("UPDATE attempt SET result = ? WHERE key = ?", (returned["value"], key))
        n, is_any_broken = calls.depend(database, seq, parts)
        change.join(seq, n, is_any_broken=is_any_broken)


def _insert(database: Database, found: Sequence[tuple[str, str, str]]) -> list[int]:
    """Insert calls (id, function, data), each after those that it refers to; return their numbers."""
    if not found:
        return []
    index = {task_id: -n for n, (task_id, _, _) in enumerate(found, start=1)}
    functions = {name: calls.function_number(database, name) for _, name, _ in found}
    parents = []
    for _, _, data in found:
        of_call = [Parents(index[one], index[one]) for one in arguments.task_ids(data) if one in index]
        others = [Parents(*one) for one in arguments.parents(database, data, without=index)]
        parents.append(tuple(dict.fromkeys([*of_call, *others])))
    return calls.insert_batch(
        database,
        CallBatch(
            ids=[task_id for task_id, _, _ in found],
            data=[data for _, _, data in found],
            function_ids=[functions[name] for _, name, _ in found],
            parents=parents,
        ),
    ).seqs
