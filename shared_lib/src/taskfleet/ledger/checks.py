"""Verifies a ledger without changing it: the file, its references, and everything that is stored twice.

Each check is a function that yields problems. Its cost is that of a few scans, so ten million tasks take a minute or two.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from taskfleet.errors import LedgerError
from taskfleet.ledger import graph_checks, migrations
from taskfleet.ledger.database import Database
from taskfleet.ledger.segments import ACCEPTED
from taskfleet.ledger.sqlite_errors import as_ledger_errors
from taskfleet.machine_terms import Market
from taskfleet.messages.fields import LATEST_TIME
from taskfleet.tasks import ATTEMPTS_PER_TASK, FAILURE_KINDS, JSON, LAST_ATTEMPT, Outcome, State

#: Problems of one check that are listed.
LISTED = 5
_STATES = ", ".join(str(int(state)) for state in State)
_OUTCOMES = ", ".join(str(int(outcome)) for outcome in Outcome)
_KINDS = ", ".join(str(int(kind)) for kind in FAILURE_KINDS)
_MARKETS = ", ".join(f"'{market}'" for market in Market)
#: The first number of an insertion that is in progress, or was killed; NULL if there is none.
_OPEN_FROM = "(SELECT min(first_seq) FROM insertion WHERE accepted_at IS NULL)"
#: What problems call an attempt.
_ATTEMPT = f"'attempt ' || (key % {ATTEMPTS_PER_TASK}) || ' of task ' || (key / {ATTEMPTS_PER_TASK})"
_IN_SEGMENT = "(SELECT count(*) FROM {table} WHERE seq BETWEEN first_seq AND last_seq)"
#: The number of tasks that are accepted and have no row in ``state``.
_FRESH = (
    f"SELECT coalesce(sum({_IN_SEGMENT.format(table='task')} - {_IN_SEGMENT.format(table='state')}), 0) FROM segment"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check."""

    name: str
    problems: tuple[str, ...]
    """What was found, at most some examples."""

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def to_json(self) -> dict[str, JSON]:
        """Return the object that ``poe check_ledger --json`` prints for it."""
        return {"check": self.name, "ok": self.is_ok, "problems": list(self.problems)}


def check(database: Database) -> Iterator[Check]:
    """Yield the result of each check, all of one instant."""
    with database.snapshot():
        for name, problems_of in CHECKS.items():
            yield Check(name=name, problems=tuple(_listed(problems_of(database))))


def _listed(problems: Iterator[str]) -> Iterator[str]:
    """Yield the first problems, and that there are more."""
    try:
        yield from islice(problems, LISTED)
        if next(problems, None) is not None:
            yield "… and more"
    except LedgerError as error:
        yield str(error)


def _file(database: Database) -> Iterator[str]:
    for (text,) in database.stream(f"PRAGMA main.integrity_check({LISTED + 1})"):
        if text != "ok":
            yield text


def _keys(database: Database) -> Iterator[str]:
    for table, row, parent, _ in database.stream("PRAGMA main.foreign_key_check"):
        yield f"row {row} of {table} refers to a missing row of {parent}"


def _schema(database: Database) -> Iterator[str]:
    with as_ledger_errors(database.path):
        missing = migrations.missing_parts(database._connection, database.schema().number)
    yield from (f"{part} is missing" for part in missing)
    jobs = database.value("SELECT count(*) FROM job")
    if jobs != 1:
        yield f"the table job has {jobs} rows instead of 1"
    under_way = database.value("SELECT count(*) FROM insertion WHERE accepted_at IS NULL")
    if under_way > 1:
        yield f"{under_way} insertions are in progress; only one can be"


def _ids(database: Database) -> Iterator[str]:
    rows = database.stream(
        "SELECT task.seq, task.id, task_id.seq FROM task LEFT JOIN task_id ON task_id.id = task.id "
        f"LEFT JOIN state ON state.seq = task.seq WHERE task_id.seq IS NOT task.seq AND {ACCEPTED}"
    )
    for seq, task_id, found in rows:
        yield f"task {seq} has the id {task_id!r}, which belongs to {'no task' if found is None else f'task {found}'}"
    rows = database.stream(
        "SELECT task_id.id, task_id.seq FROM task_id LEFT JOIN task ON task.seq = task_id.seq WHERE task.seq IS NULL"
    )
    for task_id, seq in rows:
        yield f"the id {task_id!r} belongs to task {seq}, which does not exist"


def _data(database: Database) -> Iterator[str]:
    for seq, data in database.stream(
        "SELECT seq, data FROM task WHERE NOT json_valid(data) OR substr(data, 1, 1) <> '{'"
    ):
        if not isinstance(_parsed(data), dict):
            yield f"the data of task {seq} are not a JSON object"


def _states(database: Database) -> Iterator[str]:
    conditions = {
        f"state NOT IN ({_STATES})": "is in an unknown state",
        f"(state = {State.RUNNING}) <> (worker_id IS NOT NULL)": "is running without a worker, or has a worker without running",
        f"state = {State.FAILED} AND kind NOT IN ({_KINDS})": "failed in an unknown way",
        f"state <> {State.FAILED} AND kind <> 0": "has a kind of failure and did not fail",
        f"attempt NOT BETWEEN 0 AND {LAST_ATTEMPT}": f"has an attempt number outside of 0 to {LAST_ATTEMPT}",
        "tries_from NOT BETWEEN 0 AND attempt": "counts its attempts from a number that it has not reached",
        f"available_at NOT BETWEEN -1 AND {LATEST_TIME}": "is due at an impossible time",
        "NOT EXISTS (SELECT 1 FROM task WHERE task.seq = state.seq)": "has a state, but does not exist",
    }
    yield from _broken(database, "state", "'task ' || seq || ' (state ' || state || ')'", conditions)


def _segments(database: Database) -> Iterator[str]:
    rows = database.stream(
        "SELECT first_seq, next_seq, last_seq, sent_seq, lag(last_seq) OVER (ORDER BY first_seq), "
        "(SELECT count(*) FROM task WHERE seq >= first_seq AND seq < next_seq) "
        "- (SELECT count(*) FROM state WHERE seq >= first_seq AND seq < next_seq), "
        "(SELECT queue_url IS NULL FROM job) AND EXISTS (SELECT 1 FROM state WHERE seq BETWEEN next_seq AND last_seq) "
        "FROM segment ORDER BY first_seq"
    )
    for first, following, last, sent, before, unheld, is_passed in rows:
        name = f"segment {first} to {last}"
        if not 0 < first <= following <= last + 1:
            yield f"{name}: the cursor is at {following}"
        if not 0 <= sent <= last:
            yield f"{name}: tasks up to {sent} count as sent"
        if before is not None and before >= first:
            yield f"{name} overlaps the one before"
        if unheld:
            yield f"{name}: {unheld:,} tasks before the cursor have no state and would never run"
        if is_passed:
            yield f"{name}: tasks after the cursor have a state already"


def _acceptance(database: Database) -> Iterator[str]:
    before = f"seq < coalesce({_OPEN_FROM}, seq + 1)"
    tasks, states = (database.value(f"SELECT count(*) FROM {table} WHERE {before}") for table in ("task", "state"))
    fresh = database.value(f"{_FRESH} WHERE first_seq < coalesce({_OPEN_FROM}, first_seq + 1)")
    if tasks > states + fresh:
        yield f"{tasks - states - fresh:,} tasks have no state and are in no segment: they would never run"


def _counters(database: Database) -> Iterator[str]:
    fresh = database.value(_FRESH)
    counted = {(state, kind): n for state, kind, n in database.rows("SELECT state, kind, n FROM counter") if n}
    found = {
        (state, kind): n
        for state, kind, n in database.rows(
            f"SELECT state, iif(state = {State.FAILED}, kind, 0) AS kind, count(*) FROM state GROUP BY 1, 2"
        )
    }
    found[State.PENDING, 0] = found.get((State.PENDING, 0), 0) + fresh
    for state, kind in sorted(counted.keys() | found.keys()):
        by_counter, there = counted.get((state, kind), 0), found.get((state, kind), 0)
        if by_counter != there:
            what = f"tasks in state {state}" + (f" of kind {kind}" if kind else "")
            yield f"the counter says {by_counter:,} {what}, and there are {there:,}"
    total = sum(found.values())
    inserted = database.value("SELECT n FROM tally WHERE name = 'inserted'") or 0
    if inserted != total:
        yield f"the total says {inserted:,} inserted tasks, and there are {total:,}"
    for name, n in database.stream("SELECT name, n FROM tally WHERE n < 0"):
        yield f"the total {name} is {n}"


def _attempts(database: Database) -> Iterator[str]:
    conditions = {
        f"key % {ATTEMPTS_PER_TASK} = 0 OR key < {ATTEMPTS_PER_TASK}": "has no valid number",
        f"NOT EXISTS (SELECT 1 FROM task WHERE seq = key / {ATTEMPTS_PER_TASK})": "belongs to a task that does not exist",
        f"outcome NOT IN ({_OUTCOMES})": "has an unknown outcome",
        "NOT EXISTS (SELECT 1 FROM worker WHERE worker.worker_id = attempt.worker_id)": "was run by an unknown worker",
        f"started_at NOT BETWEEN 0 AND {LATEST_TIME}": "began at an impossible time",
        f"elapsed_seconds NOT BETWEEN 0 AND {LATEST_TIME}": "took an impossible time",
    }
    yield from _broken(database, "attempt", _ATTEMPT, conditions)


def _results(database: Database) -> Iterator[str]:
    latest = f"attempt.key = state.seq * {ATTEMPTS_PER_TASK} + state.attempt"
    for (seq,) in database.stream(
        f"SELECT seq FROM state LEFT JOIN attempt ON {latest} WHERE state = {State.SUCCEEDED} "
        f"AND (outcome IS NOT {Outcome.SUCCEEDED} OR result IS NULL)"
    ):
        yield f"task {seq} succeeded, and has no result"
    for attempt, result in database.stream(
        f"SELECT {_ATTEMPT}, result FROM attempt WHERE result IS NOT NULL AND NOT json_valid(result)"
    ):
        if _parsed(result) is _NOT_JSON:  # NaN is no JSON for SQLite
            yield f"the result of {attempt} is not JSON"
    number = f"key % {ATTEMPTS_PER_TASK}"
    # Earlier successes of a task that was run again do not count. A call may also have one because its parts failed afterwards.
    for (attempt,) in database.stream(
        f"SELECT {_ATTEMPT} FROM attempt JOIN task ON task.seq = key / {ATTEMPTS_PER_TASK} LEFT JOIN state USING (seq) "
        f"WHERE outcome = {Outcome.SUCCEEDED} AND function_id = 0 AND {number} > coalesce(tries_from, 0) "
        f"AND (state IS NOT {State.SUCCEEDED} OR {number} <> attempt)"
    ):
        yield f"{attempt} succeeded, and does not count"


def _durations(database: Database) -> Iterator[str]:
    successes = database.value(f"SELECT count(*) FROM attempt WHERE outcome = {Outcome.SUCCEEDED}")
    for what, sql in (
        ("statistics", "SELECT n FROM duration_moments"),
        ("histogram", "SELECT sum(n) FROM duration"),
    ):
        n = database.value(sql) or 0
        if n != successes:
            yield f"the {what} of durations has {n:,} attempts, and {successes:,} succeeded"
    for (n,) in database.stream("SELECT count(*) FROM duration_moments HAVING count(*) > 1"):
        yield f"the table duration_moments has {n} rows instead of 1"


def _workers(database: Database) -> Iterator[str]:
    times = ("started_at", "seen_at", "lease_until", "coalesce(ended_at, 0)")
    conditions = {
        " OR ".join(f"{time} NOT BETWEEN 0 AND {LATEST_TIME}" for time in times): "has an impossible time",
        "slots < 0 OR pid < 0": "has a negative number of slots or process id",
    }
    yield from _broken(database, "worker", "'worker ' || worker_id", conditions)
    rows = database.stream(
        "SELECT state.seq, state.worker_id, worker.worker_id FROM state LEFT JOIN worker USING (worker_id) "
        f"WHERE state = {State.RUNNING} AND state.worker_id IS NOT NULL "
        "AND (worker.worker_id IS NULL OR (ended_at IS NOT NULL AND lease_until > 0))"
    )
    for seq, worker_id, found in rows:
        yield f"task {seq} is leased by worker {worker_id}, which {'does not exist' if found is None else 'has ended'}"


def _sending(database: Database) -> Iterator[str]:
    if database.value("SELECT queue_url IS NULL AND EXISTS (SELECT 1 FROM unsent) FROM job"):
        yield "tasks are to be sent to a service, and the job has none"
    for (seq,) in database.stream("SELECT seq FROM unsent WHERE seq NOT IN (SELECT seq FROM task)"):
        yield f"task {seq} is to be sent, but does not exist"
    for source, number in database.stream("SELECT source, number FROM event_batch WHERE number < 0"):
        yield f"events of {source!r} have the number {number}"


def _control(database: Database) -> Iterator[str]:
    rows = database.value("SELECT count(*) FROM control")
    if rows != 1 and database.schema().number >= migrations.CONTROL_SINCE:
        yield f"the table control has {rows} rows instead of 1"
    possible = f"state = {State.RUNNING} OR (state = {State.KILLED} AND (SELECT queue_url IS NOT NULL FROM job))"
    for (seq,) in database.stream(f"SELECT seq FROM kill LEFT JOIN state USING (seq) WHERE ({possible}) IS NOT TRUE"):
        yield f"task {seq} is to be killed, and does not run"


def _machines(database: Database) -> Iterator[str]:
    conditions = {
        f"market NOT IN ({_MARKETS})": "has an unknown market",
        f"usd_per_hour NOT BETWEEN 0 AND 1e6 OR lifetime_seconds NOT BETWEEN 0 AND {LATEST_TIME}": "has an impossible price or lifetime",
        f"ordered_at NOT BETWEEN 0 AND {LATEST_TIME} OR coalesce(ended_at, 0) NOT BETWEEN 0 AND {LATEST_TIME}": (
            "has an impossible time"
        ),
    }
    yield from _broken(database, "machine", "'machine ' || token", conditions)


def _broken(database: Database, table: str, name: str, conditions: dict[str, str]) -> Iterator[str]:
    """Yield a problem for each row of a table, called by its SQL ``name``, and each condition (SQL: problem) that is true for it."""
    terms = [f"({condition})" for condition in conditions]
    for row, *found in database.stream(f"SELECT {name}, {', '.join(terms)} FROM {table} WHERE {' OR '.join(terms)}"):
        yield from (f"{row} {text}" for text, is_true in zip(conditions.values(), found, strict=True) if is_true)


#: Every check by its name, in the order in which they are made.
CHECKS: dict[str, Callable[[Database], Iterator[str]]] = {
    "file": _file,
    "foreign keys": _keys,
    "schema": _schema,
    "ids": _ids,
    "data": _data,
    "states": _states,
    "functions": graph_checks.functions,
    "dependencies": graph_checks.dependencies,
    "waiting": graph_checks.waiting,
    "segments": _segments,
    "acceptance": _acceptance,
    "counters": _counters,
    "attempts": _attempts,
    "results": _results,
    "durations": _durations,
    "workers": _workers,
    "sending": _sending,
    "control": _control,
    "machines": _machines,
}

_NOT_JSON = object()


def _parsed(text: str) -> object:
    """Return the value of a JSON text as the library reads it; ``_NOT_JSON`` if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOT_JSON
