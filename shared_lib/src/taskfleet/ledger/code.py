"""Versions of the code of a graph's functions: which there are, which workers ran them, and which tasks were done by other code."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from taskfleet.ledger.database import Database
from taskfleet.tasks import ATTEMPTS_PER_TASK, State


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherCode:
    """The tasks of a function that one other version of its code has done."""

    seqs: list[int]
    """The tasks that succeeded."""
    seconds: float
    """The total duration of the attempts in which they did."""
    parts: Mapping[str, str] | None
    """The parts of that version; None if no script has described it."""


def register_version(
    database: Database, function_id: int, code_hash: str, *, parts: Mapping[str, str], source: str, now: float
) -> None:
    """Enter the code that a function has in a script, if it is new."""
    with database.transaction():
        database.execute(
            "INSERT INTO function_version (function_id, version, code_hash, parts, source, seen_at) "
            "SELECT :function, 1 + coalesce((SELECT max(version) FROM function_version WHERE function_id = :function), 0), "
            ":hash, :parts, :source, :now "
            "WHERE NOT EXISTS (SELECT 1 FROM function_version WHERE function_id = :function AND code_hash = :hash)",
            {"function": function_id, "hash": code_hash, "parts": json.dumps(parts), "source": source, "now": now},
        )


def register_worker_code(database: Database, worker_id: int, codes: Mapping[str, str]) -> None:
    """Enter the code that a worker has imported: its hash by the name of the function, in an open transaction.

    Of a function whose app declares a version, only a version counts, which a worker of a service queue does not know.
    """
    is_declared = "coalesce(json_extract(options, '$.version'), '') <> ''"
    database.execute_many(
        "INSERT OR REPLACE INTO worker_code (worker_id, function_id, code_hash) "
        f"SELECT ?1, function_id, ?2 FROM function WHERE name = ?3 AND ({is_declared}) = (?2 LIKE 'version %')",
        [(worker_id, code_hash, name) for name, code_hash in codes.items()],
    )


def done_by_other_code(database: Database, function_id: int, code_hash: str) -> list[OtherCode]:
    """Return the tasks of a function that succeeded with other code, by its version.

    A worker that did not say which code it ran, such as one of a service queue, counts as running the latest version that a script had
    described when it started.
    """
    hash_of_worker = (
        "coalesce((SELECT code_hash FROM worker_code WHERE worker_id = worker.worker_id AND function_id = :function), "
        "(SELECT code_hash FROM function_version WHERE function_id = :function AND seen_at <= started_at ORDER BY version DESC LIMIT 1))"
    )
    others: dict[str, list[int]] = {}
    for worker_id, other in database.rows(
        f"SELECT worker_id, {hash_of_worker} AS code FROM worker WHERE code <> :hash",
        {"function": function_id, "hash": code_hash},
    ):
        others.setdefault(other, []).append(worker_id)
    found = []
    for other, workers in others.items():
        rows = database.rows(
            "SELECT task.seq, elapsed_seconds FROM task JOIN state ON state.seq = task.seq "
            f"JOIN attempt ON key = task.seq * {ATTEMPTS_PER_TASK} + state.attempt "
            f"WHERE function_id = ? AND state.state = {State.SUCCEEDED} AND attempt.worker_id IN (SELECT value FROM json_each(?))",
            (function_id, json.dumps(workers)),
        )
        if rows:
            parts = database.value(
                "SELECT parts FROM function_version WHERE function_id = ? AND code_hash = ?", (function_id, other)
            )
            found.append(
                OtherCode(
                    seqs=[seq for seq, _ in rows],
                    seconds=sum(seconds for _, seconds in rows),
                    parts=None if parts is None else json.loads(parts),
                )
            )
    return found


def count_done_by_other_versions(database: Database, name: str) -> int:
    """Return the number of tasks that succeeded with other versions of a function by value, whose name is ``module:function@version``."""
    others = (
        "function_id IN (SELECT function_id FROM function WHERE name <> :name AND instr(options, '\"stored\":') "
        "AND substr(name, 1, length(:prefix)) = :prefix)"
    )
    parameters: dict[str, object] = {"name": name, "prefix": f"{name.rpartition('@')[0]}@"}
    if not database.value(f"SELECT EXISTS (SELECT 1 FROM function WHERE {others})", parameters):
        return 0
    n: int = database.value(
        f"SELECT count(*) FROM task JOIN state USING (seq) WHERE {others} AND state = {State.SUCCEEDED}", parameters
    )
    return n


def failed_tasks(database: Database, function_id: int) -> list[str]:
    """Return the ids of the tasks of a function that failed."""
    rows = database.rows(
        f"SELECT id FROM state JOIN task USING (seq) WHERE state = {State.FAILED} AND function_id = ? ORDER BY seq",
        (function_id,),
    )
    return [task_id for (task_id,) in rows]
