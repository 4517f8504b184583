"""Queries about a job. Nothing here changes the ledger."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.dependencies import Dependencies, find_dependencies
from taskfleet.ledger.environments import packages_of
from taskfleet.ledger.segments import ACCEPTED
from taskfleet.ledger.stored_json import read_data, read_json
from taskfleet.references.plain import plain
from taskfleet.tasks import ATTEMPTS_PER_TASK, JSON, SEPARATOR, Outcome, State, attempt_key, streams


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
    """The end of what it printed; None if it printed nothing."""
    stdout: str | None = None
    """The part of it that went to standard output; None if the two were not kept apart."""
    stderr: str | None = None
    """The part of it that went to standard error; None if the two were not kept apart."""
    exit_code: int | None
    peak_memory_mib: float | None
    code_version: int | None = None
    """The version of the function's code that its worker had imported, from 1 in the order in which scripts had them; None if unknown."""
    packages: dict[str, str] | None = None
    """The versions of Python and of the packages that its worker had, by name; None if unknown."""


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
    graph: Dependencies
    """How it depends on others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    """A task in a list."""

    seq: int
    task_id: str
    state: State
    kind: Outcome | None
    attempts: int
    reason: str | None
    """The first line of the latest attempt's error, or the task because of which it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker that has not ended."""

    worker_id: int
    hostname: str
    pid: int
    slots: int
    started_at: float
    seen_at: float
    manager_id: int
    manager: str
    """Whose tasks it runs; empty for the default one."""
    leased: int
    """Tasks on which it holds a lease: one runs in each slot, and the others are prefetched."""

    @property
    def running(self) -> int:
        """Tasks that its slots execute."""
        return min(self.leased, self.slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReason:
    """The first line of an error, and the failed tasks that have it."""

    reason: str
    """Empty for a failure without an error."""
    n: int
    first_seq: int
    """Sequence number of the first of them."""
    task_id: str
    """Id of the first of them."""


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
#: Why a task did not succeed, and the first line of that.
_BECAUSE = "CASE WHEN root_seq IS NOT NULL THEN 'because ' || (SELECT id FROM task AS root WHERE root.seq = root_seq) || ' did not succeed'"
_ERROR = f"{_BECAUSE} ELSE error END"
_REASON = f"{_BECAUSE} ELSE {_FIRST_LINE} END"
_LINE = (
    f"SELECT task.seq, task.id, state.state, state.kind, state.attempt, {_REASON} FROM state JOIN task USING (seq) "
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
        f"SELECT key % {ATTEMPTS_PER_TASK}, outcome, attempt.worker_id, coalesce(hostname, '?'), attempt.started_at, elapsed_seconds, "
        "result, error, output, exit_code, peak_memory_mib, function_version.version FROM attempt LEFT JOIN worker USING (worker_id) "
        "LEFT JOIN worker_code ON worker_code.worker_id = attempt.worker_id "
        "AND worker_code.function_id = (SELECT function_id FROM task WHERE seq = ?) "
        "LEFT JOIN function_version USING (function_id, code_hash) WHERE key > ? AND key < ? ORDER BY key",
        (seq, attempt_key(seq, 0), attempt_key(seq + 1, 0)),
    )
    packages = {worker_id: packages_of(database, worker_id) for worker_id in {row[2] for row in attempts}}
    return TaskRecord(
        seq=seq,
        task_id=task_id,
        data=data,
        state=State(state),
        kind=Outcome(kind) if state == State.FAILED else None,
        available_at=available_at,
        hostname=hostname,
        graph=find_dependencies(database, seq),
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
                output=None if output is None else "".join(streams(output)),
                stdout=streams(output)[0] if SEPARATOR in (output or "") else None,
                stderr=streams(output)[1] if SEPARATOR in (output or "") else None,
                exit_code=exit_code,
                peak_memory_mib=peak,
                code_version=code_version,
                packages=packages[worker_id],
            )
            for (
                number,
                outcome,
                worker_id,
                host,
                started_at,
                elapsed,
                result,
                error,
                output,
                exit_code,
                peak,
                code_version,
            ) in attempts
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


def failure_reasons(database: Database, kind: Outcome, examined: int) -> list[FailureReason]:
    """Return the reasons of the first failed tasks of a kind, the most frequent first.

    Args:
        database: The ledger.
        kind: The kind of failure.
        examined: The number of tasks to examine at most; the cost grows with it.
    """
    rows = database.rows(
        "SELECT reason, n, first_seq, task.id FROM (SELECT reason, count(*) AS n, min(seq) AS first_seq FROM ("
        f"SELECT state.seq AS seq, coalesce({_FIRST_LINE}, '') AS reason FROM state LEFT JOIN attempt ON attempt.key = {_LATEST} "
        f"WHERE state.state = {State.FAILED} AND state.kind = ? ORDER BY state.seq LIMIT ?) "
        "GROUP BY reason) LEFT JOIN task ON task.seq = first_seq ORDER BY n DESC, first_seq",
        (int(kind), examined),
    )
    return [FailureReason(reason=reason, n=n, first_seq=seq, task_id=task_id) for reason, n, seq, task_id in rows]


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
            manager_id=manager_id,
            manager=manager,
            leased=leased,
        )
        for worker_id, hostname, pid, slots, started_at, seen_at, manager_id, manager, leased in database.rows(
            "SELECT worker_id, hostname, pid, slots, started_at, seen_at, manager_id, "
            "coalesce((SELECT name FROM manager WHERE manager.manager_id = worker.manager_id), ''), "
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


def results(database: Database, file_address: Callable[[str], str] = str) -> Iterator[dict[str, JSON]]:
    """Yield each task with its result, in the order of the table.

    Keys: ``task_id``, ``function`` if the job has a graph, the task's arguments, ``state``, ``result`` (or ``result_KEY`` for each key of
    an object that has any), ``failure_kind``, ``error``, ``attempts``, ``elapsed_seconds``, ``started_at``, ``hostname``. An argument with
    one of these names gets the prefix ``arg_``.

    Args:
        database: The ledger.
        file_address: Returns the address of a large value of a graph by the name of its file.
    """
    functions: dict[int, str] = dict(database.rows("SELECT function_id, name FROM function"))
    reserved = _RESERVED | {"function"} if functions else _RESERVED
    rows = database.stream(
        f"SELECT task.id, function_id, data, coalesce(state.state, {State.PENDING}), kind, coalesce(state.attempt, 0), outcome, "
        f"attempt.started_at, elapsed_seconds, result, {_ERROR}, hostname FROM task LEFT JOIN state USING (seq) "
        f"LEFT JOIN attempt ON attempt.key = {_LATEST} LEFT JOIN worker ON worker.worker_id = attempt.worker_id "
        f"WHERE {ACCEPTED} ORDER BY task.seq"
    )
    for (
        task_id,
        function_id,
        data,
        state,
        kind,
        attempts,
        outcome,
        started_at,
        elapsed,
        result,
        error,
        hostname,
    ) in rows:
        record: dict[str, JSON] = {"task_id": task_id}
        if functions:
            record["function"] = functions.get(function_id)
        for name, value in read_data(data, task_id).items():
            record[_argument_column(name, reserved)] = plain(value, file_address) if function_id else value
        record["state"] = State(state).word
        if outcome == Outcome.SUCCEEDED and result is not None:
            value = read_json(result, f"result of task {task_id!r}")
            value = plain(value, file_address) if function_id else value
            if value and isinstance(value, dict):
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


def _argument_column(name: str, reserved: frozenset[str]) -> str:
    """Return the column of an argument, which differs from those of other arguments and of results."""
    bare = name
    while bare.startswith("arg_"):  # an argument arg_state must not meet the argument state
        bare = bare.removeprefix("arg_")
    return f"arg_{name}" if bare in reserved or bare.startswith("result_") else name


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
_RESERVED = frozenset({*RESULT_COLUMNS, "result"})


def was_inserted(database: Database) -> bool:
    """Return whether an insertion has finished, also if it had no tasks."""
    return bool(
        database.value(
            "SELECT EXISTS (SELECT 1 FROM insertion WHERE accepted_at IS NOT NULL) OR EXISTS (SELECT 1 FROM state) "
            "OR EXISTS (SELECT 1 FROM segment)"  # of the calls of a graph
        )
    )
