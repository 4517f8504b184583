"""Queries about a job. Nothing here changes the ledger."""

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.segments import ACCEPTED
from taskfleet.tasks import ATTEMPTS_PER_TASK, JSON, Outcome, State, attempt_key


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """An attempt that ended."""

    number: int
    outcome: Outcome
    worker_id: int
    hostname: str
    started_at: float
    elapsed_seconds: float
    result: str | None
    error: str | None
    output: str | None
    exit_code: int | None
    peak_memory_mib: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task with all its attempts."""

    seq: int
    task_id: str
    data: str
    state: State
    kind: Outcome | None
    """How it failed; None if it did not."""
    available_at: float
    hostname: str | None
    """The host that runs it; None if it is not running."""
    attempts: tuple[AttemptRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    """A task in a list."""

    seq: int
    task_id: str
    state: State
    kind: Outcome | None
    attempts: int
    reason: str | None
    """The first line of the latest attempt's error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker that has not ended."""

    worker_id: int
    hostname: str
    pid: int
    slots: int
    started_at: float
    seen_at: float
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryVersions:
    """The library versions that are used for a job. An empty version is unknown: schemas before 6 do not have it."""

    job: str
    """The version that made the ledger or migrated it last."""
    workers: dict[str, int]
    """The number of workers that have not ended, by version."""
    machines: dict[str, int]
    """The number of machines that have not ended, by version."""

    @property
    def is_mixed(self) -> bool:
        """Whether there is more than one version."""
        return len({self.job, *self.workers, *self.machines}) > 1


#: SQL for the key of a task's latest attempt.
_LATEST = f"state.seq * {ATTEMPTS_PER_TASK} + state.attempt"
_FIRST_LINE = "CASE WHEN instr(error, char(10)) THEN substr(error, 1, instr(error, char(10)) - 1) ELSE error END"
_LINE = (
    f"SELECT task.seq, task.id, state.state, state.kind, state.attempt, {_FIRST_LINE} FROM state JOIN task USING (seq) "
    f"LEFT JOIN attempt ON attempt.key = {_LATEST}"
)


def list_tasks(
    database: Database, *, state: State | None = None, kind: Outcome | None = None, limit: int = 100
) -> Iterator[TaskLine]:
    """Yield tasks in the order of the table, only those of a state and kind if given."""
    with_fresh = state in (State.PENDING, None) and kind is None
    known = _known_tasks(database, state, kind, limit)
    fresh = _fresh_tasks(database, limit) if with_fresh else iter(())
    yield from islice(heapq.merge(known, fresh, key=lambda line: line.seq), limit)


def _known_tasks(database: Database, state: State | None, kind: Outcome | None, limit: int) -> Iterator[TaskLine]:
    """Yield tasks that have a row in ``state``."""
    conditions = [f"state.state = {int(state)}"] if state is not None else []
    if kind is not None:
        conditions.append(f"state.kind = {int(kind)}")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    for row in database.stream(f"{_LINE} {where} ORDER BY state.seq LIMIT ?", (limit,)):
        seq, task_id, number, kind_number, attempts, reason = row
        yield TaskLine(
            seq=seq,
            task_id=task_id,
            state=State(number),
            kind=Outcome(kind_number) if number == State.FAILED else None,
            attempts=attempts,
            reason=reason,
        )


def _fresh_tasks(database: Database, limit: int) -> Iterator[TaskLine]:
    """Yield pending tasks that have no row in ``state``."""
    fresh = (
        "SELECT task.seq, id FROM segment JOIN task ON task.seq BETWEEN next_seq AND last_seq LEFT JOIN state USING (seq) "
        "WHERE next_seq <= last_seq AND state.seq IS NULL "  # with a service queue, rows in state appear in any order
        "ORDER BY first_seq, task.seq LIMIT ?"
    )
    for seq, task_id in database.stream(fresh, (limit,)):
        yield TaskLine(seq=seq, task_id=task_id, state=State.PENDING, kind=None, attempts=0, reason=None)


def find_task(database: Database, task_id: str) -> TaskRecord | None:
    """Return a task with all its attempts; None if the job has no such task."""
    found = database.row(
        f"SELECT task.seq, data, coalesce(state.state, {State.PENDING}), coalesce(kind, 0), coalesce(available_at, 0), worker.hostname "
        "FROM task_id JOIN task USING (seq) LEFT JOIN state USING (seq) LEFT JOIN worker USING (worker_id) "
        f"WHERE task_id.id = ? AND {ACCEPTED}",
        (task_id,),
    )
    if found is None:
        return None
    seq, data, state, kind, available_at, hostname = found
    attempts = database.rows(
        f"SELECT key % {ATTEMPTS_PER_TASK}, outcome, worker_id, coalesce(hostname, '?'), attempt.started_at, elapsed_seconds, "
        "result, error, output, exit_code, peak_memory_mib FROM attempt LEFT JOIN worker USING (worker_id) "
        "WHERE key > ? AND key < ? ORDER BY key",
        (attempt_key(seq, 0), attempt_key(seq + 1, 0)),
    )
    return TaskRecord(
        seq=seq,
        task_id=task_id,
        data=data,
        state=State(state),
        kind=Outcome(kind) if state == State.FAILED else None,
        available_at=available_at,
        hostname=hostname,
        attempts=tuple(
            AttemptRecord(
                number=number,
                outcome=Outcome(outcome),
                worker_id=worker_id,
                hostname=host,
                started_at=started_at,
                elapsed_seconds=elapsed,
                result=result,
                error=error,
                output=output,
                exit_code=exit_code,
                peak_memory_mib=peak,
            )
            for number, outcome, worker_id, host, started_at, elapsed, result, error, output, exit_code, peak in attempts
        ),
    )


def all_tasks(database: Database) -> Iterator[tuple[str, str, State]]:
    """Yield the id, data and state of each task, in the order of insertion."""
    rows = database.stream(
        f"SELECT id, data, coalesce(state.state, {State.PENDING}) FROM task LEFT JOIN state USING (seq) WHERE {ACCEPTED} "
        "ORDER BY task.seq"
    )
    for task_id, data, state in rows:
        yield task_id, data, State(state)


def sample(database: Database, number: int) -> list[tuple[str, str]]:
    """Return the ids and data of up to ``number`` tasks, evenly spaced over all tasks."""
    first, last = database.row(
        "SELECT (SELECT coalesce(min(seq), 1) FROM task), max(coalesce((SELECT max(seq) FROM state), 0), "
        "coalesce((SELECT last_seq FROM segment ORDER BY first_seq DESC LIMIT 1), 0))"
    ) or (1, 0)
    steps = {first + round(index * (last - first) / max(number - 1, 1)) for index in range(number)}
    return database.rows(
        f"SELECT task.id, task.data FROM json_each(?) JOIN task ON task.seq = json_each.value LEFT JOIN state USING (seq) WHERE {ACCEPTED} "
        "ORDER BY task.seq",
        (as_json(steps),),
    )


def one_pending(database: Database) -> tuple[str, str] | None:
    """Return the id and data of a pending task; None if there is none."""
    for source in (
        f"state JOIN task USING (seq) WHERE state = {State.PENDING}",
        "segment JOIN task ON seq BETWEEN next_seq AND last_seq WHERE next_seq <= last_seq",
    ):
        row = database.row(f"SELECT id, data FROM {source} LIMIT 1")
        if row is not None:
            task_id, data = row
            return task_id, data
    return None


def failure_examples(database: Database) -> dict[Outcome, tuple[str, str]]:
    """Return, by kind of failure, the id and the reason of the first task that failed in this way."""
    examples = {}
    for (kind,) in database.rows(f"SELECT DISTINCT kind FROM state WHERE state = {State.FAILED}"):
        row = database.row(
            f"{_LINE} WHERE state.state = {State.FAILED} AND state.kind = ? ORDER BY state.seq LIMIT 1", (kind,)
        )
        if row is not None:
            _seq, task_id, _state, _kind, _attempts, reason = row
            examples[Outcome(kind)] = (task_id, reason or "")
    return examples


def exceptions(database: Database, most: int = 10) -> list[tuple[str, int]]:
    """Return the first lines of the errors of failed tasks with their counts, the most frequent first. The cost grows with the failures."""
    rows = database.rows(
        f"SELECT {_FIRST_LINE} AS reason, count(*) "
        f"FROM state JOIN attempt ON attempt.key = {_LATEST} WHERE state.state = {State.FAILED} AND error IS NOT NULL "
        "GROUP BY reason ORDER BY 2 DESC, 1 LIMIT ?",
        (most,),
    )
    return [(reason, n) for reason, n in rows]


def workers(database: Database) -> list[WorkerRecord]:
    """Return the workers that have not ended."""
    return [
        WorkerRecord(
            worker_id=worker_id,
            hostname=hostname,
            pid=pid,
            slots=slots,
            started_at=started_at,
            seen_at=seen_at,
            running=running,
        )
        for worker_id, hostname, pid, slots, started_at, seen_at, running in database.rows(
            "SELECT worker_id, hostname, pid, slots, started_at, seen_at, "
            f"(SELECT count(*) FROM state WHERE state = {State.RUNNING} AND state.worker_id = worker.worker_id) "
            "FROM worker WHERE ended_at IS NULL ORDER BY worker_id"
        )
    ]


def library_versions(database: Database) -> LibraryVersions:
    """Return the library versions that are used for the job."""
    return LibraryVersions(
        job=database.value("SELECT version FROM job"),
        workers=dict(database.rows("SELECT version, count(*) FROM worker WHERE ended_at IS NULL GROUP BY version")),
        machines=dict(database.rows("SELECT version, count(*) FROM machine WHERE ended_at IS NULL GROUP BY version")),
    )


def results(database: Database) -> Iterator[dict[str, JSON]]:
    """Yield each task of the table with its result, in the order of the table.

    Keys: ``task_id``, the task's arguments, ``state``, ``result`` (or ``result_KEY`` for each key of an object), ``failure_kind``,
    ``error``, ``attempts``, ``elapsed_seconds``, ``started_at``, ``hostname``. An argument with one of these names gets the prefix
    ``arg_``.
    """
    rows = database.stream(
        f"SELECT task.id, data, coalesce(state.state, {State.PENDING}), kind, coalesce(state.attempt, 0), outcome, attempt.started_at, "
        "elapsed_seconds, result, error, hostname FROM task LEFT JOIN state USING (seq) "
        f"LEFT JOIN attempt ON attempt.key = {_LATEST} LEFT JOIN worker ON worker.worker_id = attempt.worker_id "
        f"WHERE {ACCEPTED} ORDER BY task.seq"
    )
    for task_id, data, state, kind, attempts, outcome, started_at, elapsed, result, error, hostname in rows:
        record: dict[str, JSON] = {"task_id": task_id}
        for name, value in json.loads(data).items():
            record[f"arg_{name}" if name in (*RESULT_COLUMNS, "result") or name.startswith("result_") else name] = value
        record["state"] = State(state).word
        if outcome == Outcome.SUCCEEDED and result is not None:
            value = json.loads(result)
            if isinstance(value, dict):
                record |= {f"result_{key}": item for key, item in value.items()}
            else:
                record["result"] = value
        record["failure_kind"] = Outcome(kind).word if state == State.FAILED else None
        record["error"] = error
        record["attempts"] = attempts
        record["elapsed_seconds"] = elapsed
        record["started_at"] = started_at
        record["hostname"] = hostname
        yield record


#: The columns that ``results`` always has.
RESULT_COLUMNS = (
    "task_id",
    "state",
    "failure_kind",
    "error",
    "attempts",
    "elapsed_seconds",
    "started_at",
    "hostname",
)


def was_inserted(database: Database) -> bool:
    """Return whether an insertion has finished, also if it had no tasks."""
    return bool(
        database.value(
            "SELECT EXISTS (SELECT 1 FROM insertion WHERE accepted_at IS NOT NULL) OR EXISTS (SELECT 1 FROM state)"
        )
    )
