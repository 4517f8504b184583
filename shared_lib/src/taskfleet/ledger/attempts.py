"""The attempts that ended: one row each, never deleted."""

from collections.abc import Iterable, Sequence

from taskfleet.ledger.database import Database, as_json
from taskfleet.tasks import ATTEMPTS_PER_TASK, Finished, Outcome, attempt_key

#: SQL for the number of times that a task of the table state was lost with its worker or slot since a user last retried it.
LOSSES = (
    f"SELECT count(*) FROM attempt WHERE key > state.seq * {ATTEMPTS_PER_TASK} + state.tries_from "
    f"AND key <= state.seq * {ATTEMPTS_PER_TASK} + state.attempt AND outcome = {Outcome.LOST}"
)
#: The work of attempts with these outcomes is lost.
_WASTED = frozenset({Outcome.INTERRUPTED, Outcome.LOST})
#: How the result of a graph's task begins that returned calls; see ``parts``.
PARTS = '{"$calls":'


def keep(database: Database, worker_id: int, finished: Sequence[Finished]) -> None:
    """Record attempts that ended, and the time that the worker spent on them."""
    busy_seconds = sum(f.elapsed_seconds for f in finished if f.outcome not in _WASTED)
    if busy_seconds:
        database.execute(
            "UPDATE worker SET busy_seconds = busy_seconds + ? WHERE worker_id = ?", (busy_seconds, worker_id)
        )
    database.execute_many(
        "INSERT OR REPLACE INTO attempt (key, worker_id, outcome, started_at, elapsed_seconds, result, error, output, exit_code, "
        "peak_memory_mib) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                f.seq * ATTEMPTS_PER_TASK + f.attempt,
                worker_id,
                int(f.outcome),
                f.started_at,
                f.elapsed_seconds,
                f.result,
                f.error,
                f.output,
                f.exit_code,
                f.peak_memory_mib,
            )
            for f in finished
        ],
    )


def results_of(seq: str) -> str:
    """Return SQL that selects the results of a task, the latest first.

    Args:
        seq: The SQL expression for the number of the task.
    """
    return (
        f"SELECT result FROM attempt WHERE key > {seq} * {ATTEMPTS_PER_TASK} AND key < ({seq} + 1) * {ATTEMPTS_PER_TASK} "
        f"AND outcome = {Outcome.SUCCEEDED} ORDER BY key DESC"
    )


def with_parts(finished: Iterable[Finished]) -> list[int]:
    """Return the tasks with results that say that they returned calls."""
    return [f.seq for f in finished if f.result is not None and f.result.startswith(PARTS)]


def last_success(database: Database, seq: int) -> tuple[int, str] | None:
    """Return the key and the result of the latest successful attempt of a task; None if there is none."""
    return database.row(
        f"SELECT key, result FROM attempt WHERE key > ? AND key < ? AND outcome = {Outcome.SUCCEEDED} ORDER BY key DESC LIMIT 1",
        (attempt_key(seq, 0), attempt_key(seq + 1, 0)),
    )


def count_earlier(database: Database, finished: Finished) -> int:
    """Return the number of earlier attempts of the task that ended in the same way since a user last retried it."""
    n: int = database.value(
        f"SELECT count(*) FROM state JOIN attempt ON key > state.seq * {ATTEMPTS_PER_TASK} + tries_from AND key < ? "
        "WHERE state.seq = ? AND outcome = ?",
        (attempt_key(finished.seq, finished.attempt), finished.seq, int(finished.outcome)),
    )
    return n


def known_keys(database: Database, seqs: Iterable[int]) -> set[int]:
    """Return the keys of the ended attempts of tasks."""
    rows = database.rows(
        f"SELECT attempt.key FROM json_each(?) JOIN attempt ON attempt.key > json_each.value * {ATTEMPTS_PER_TASK} "
        f"AND attempt.key < (json_each.value + 1) * {ATTEMPTS_PER_TASK}",
        (as_json(seqs),),
    )
    return {key for (key,) in rows}
