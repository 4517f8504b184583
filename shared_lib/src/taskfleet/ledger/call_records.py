"""The calls of a graph with everything that the ledger knows of them, and which of them belong to which function."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from taskfleet.ledger import managers
from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.function_graph import change_function
from taskfleet.tasks import ATTEMPTS_PER_TASK, State

_LATEST = f"SELECT max(key) FROM attempt WHERE key > task.seq * {ATTEMPTS_PER_TASK} AND key < (task.seq + 1) * {ATTEMPTS_PER_TASK}"
_RECORD = (
    f"SELECT task.seq, task.id, task.data, task.function_id, coalesce(state.state, {State.PENDING}), attempt.started_at, "
    "attempt.elapsed_seconds, attempt.result, attempt.error, attempt.output, attempt.exit_code, worker.hostname, worker.pid "
    f"FROM task LEFT JOIN state USING (seq) LEFT JOIN attempt ON attempt.key = ({_LATEST}) "
    "LEFT JOIN worker ON worker.worker_id = coalesce(state.worker_id, attempt.worker_id)"
)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call and its latest attempt, whose fields are None if there is none."""

    seq: int
    task_id: str
    data: str
    function_id: int
    state: int
    started_at: float | None
    elapsed_seconds: float | None
    result: str | None
    error: str | None
    output: str | None
    exit_code: int | None
    hostname: str | None
    pid: int | None


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """A function of a graph."""

    function_id: int
    name: str
    options: str
    """JSON."""


def functions(database: Database) -> list[FunctionRecord]:
    """Return all functions, in the order in which they were entered."""
    return [
        FunctionRecord(*row)
        for row in database.rows("SELECT function_id, name, options FROM function ORDER BY function_id")
    ]


def calls(
    database: Database,
    *,
    function_ids: Sequence[int] | None = None,
    states: Sequence[State] = (),
    task_ids: Sequence[str] = (),
) -> Iterator[CallRecord]:
    """Yield calls in the order in which they were made, only those of some functions, states or ids if given."""
    conditions, values = ["task.function_id > 0"], dict[str, Any]()
    if function_ids is not None:
        conditions.append("task.function_id IN (SELECT value FROM json_each(:functions))")
        values["functions"] = as_json(function_ids)
    if states:
        conditions.append(f"coalesce(state.state, {State.PENDING}) IN (SELECT value FROM json_each(:states))")
        values["states"] = as_json(map(int, states))
    if task_ids:
        conditions.append("task.seq IN (SELECT seq FROM task_id WHERE id IN (SELECT value FROM json_each(:ids)))")
        values["ids"] = json.dumps(list(task_ids))
    for row in database.rows(f"{_RECORD} WHERE {' AND '.join(conditions)} ORDER BY task.seq", values):
        yield CallRecord(*row)


def unfinished_functions(database: Database) -> set[int]:
    """Return the functions with calls that are waiting or pending."""
    rows = database.rows(
        f"SELECT DISTINCT function_id FROM state JOIN task USING (seq) WHERE state.state IN ({State.WAITING}, {State.PENDING})"
    )
    return {function_id for (function_id,) in rows}


def beginnings(database: Database, function_ids: Sequence[int], length: int) -> list[tuple[str, str]]:
    """Return the id and the beginning of the data of each call of some functions, in the order in which they were made."""
    return database.rows(
        "SELECT id, substr(data, 1, ?) FROM task WHERE function_id IN (SELECT value FROM json_each(?)) ORDER BY seq",
        (length, as_json(function_ids)),
    )


def hand_over(database: Database, seq: int, function_id: int) -> None:
    """Let another function run a call that has not begun."""
    with database.transaction():
        changed = database.execute(
            "UPDATE task SET function_id = ? WHERE seq = ? AND function_id <> ? AND seq IN "
            f"(SELECT seq FROM state WHERE state IN ({State.WAITING}, {State.PENDING}))",
            (function_id, seq, function_id),
        ).rowcount
        if changed:
            change_function(database, seq, function_id)
            managers.copy_to_tasks(database, seq, seq)
