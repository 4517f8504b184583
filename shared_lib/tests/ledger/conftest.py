"""A job to try things on: a real ledger in a temporary folder, and children that really die."""

import os
import signal
import sqlite3
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import pytest
from taskfleet.ledger import counters, insertion, leasing
from taskfleet.ledger.database import Database, create, open_ledger
from taskfleet.processes.identity import identity
from taskfleet.tasks import Finished, Lease, Outcome, RetryPolicy, State

POLICY = RetryPolicy(
    retries={
        Outcome.EXCEPTION: 2,
        Outcome.TIMEOUT: 1,
        Outcome.EXIT: 1,
        Outcome.MEMORY: 0,
        Outcome.LOST: 2,
        Outcome.RETRY: 3,
    },
    delay_seconds=10.0,
    max_delay_seconds=25.0,
)


#: The tables that say where tasks stand and what follows from it.
GUARDED = frozenset({"state", "segment", "unsent", "counter", "tally", "throughput"})
#: The transitions, which alone may write them.
WRITERS = frozenset(
    f"taskfleet.ledger.{name}"
    for name in ("changes", "transitions", "descendants", "cancel_transitions", "releasing", "migrations")
)
#: What is written for a transition and by nobody else; the one who asks for it has to be ``transitions``.
HELPERS = frozenset(
    {
        "taskfleet.ledger.connection",
        "taskfleet.ledger.database",
        "taskfleet.ledger.counters",
        "contextlib",
    }
)
#: What may be written elsewhere, because it changes no state.
EXCEPTIONS = frozenset(
    {
        ("taskfleet.ledger.managers", "state", "manager_id"),  # who runs the task
        ("taskfleet.ledger.sending", "segment", "sent_seq"),
        ("taskfleet.ledger.sending", "unsent", None),
        ("taskfleet.ledger.sending", "tally", None),  # when it may send, after a purge
        ("taskfleet.ledger.sending", "tally", "n"),
        ("taskfleet.api.queue", "tally", None),  # the totals as they were at a rezero
        ("taskfleet.api.queue", "tally", "n"),
    }
)


def only_transitions_write(action, table, column, _schema, _trigger):
    """Refuse, as SQLite's authorizer, every statement of the library that writes where tasks stand but for those of ``transitions``."""
    writes = {sqlite3.SQLITE_INSERT: None, sqlite3.SQLITE_DELETE: None, sqlite3.SQLITE_UPDATE: column}
    if action not in writes or table not in GUARDED:
        return sqlite3.SQLITE_OK
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals["__name__"] in HELPERS:
        frame = frame.f_back
    name = "" if frame is None else frame.f_globals["__name__"]
    is_allowed = (
        not name.startswith("taskfleet.")  # a test that sets something up
        or name in WRITERS
        or (name, table, writes[action]) in EXCEPTIONS
    )
    return sqlite3.SQLITE_OK if is_allowed else sqlite3.SQLITE_DENY


@pytest.fixture(scope="session", autouse=True)
def _guarded_connections():
    """Watch each connection of this process to a ledger, and of those forked from it."""
    connect = sqlite3.connect

    def guarded_connect(*arguments, **more):
        connection = connect(*arguments, **more)
        connection.set_authorizer(only_transitions_write)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", guarded_connect)
        yield


class Job:
    """One ledger. Its connections are closed before a child is forked, since SQLite's must not cross a fork."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "job.db"
        self._connections: list[Database] = []
        self._database: Database | None = None
        create(self.path, job_id="job", project=folder, now=0.0).close()

    @property
    def database(self) -> Database:
        if self._database is None:
            self._database = self.connect()
        return self._database

    def connect(self) -> Database:
        self._connections.append(open_ledger(self.path, job_id="job"))
        return self._connections[-1]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self._connections, self._database = [], None

    # --- what a job goes through ---

    def insert(self, data: int | Sequence[str], ids: Sequence[str] | None = None) -> insertion.InsertReport:
        """Insert tasks, so many or with this data, under the given ids or derived ones."""
        data = [f'{{"x": {n}}}' for n in range(data)] if isinstance(data, int) else data
        under_way = insertion.begin(self.database, source="a table")
        under_way.add(ids or [f"id of {text}" for text in data], data, ids_are_derived=ids is None, now=0.0)
        return under_way.accept(0.0)

    def worker(self, *, lease_seconds: float = 30.0, now: float = 0.0) -> int:
        return leasing.register(
            self.database,
            hostname="here",
            process=identity(),
            pid=os.getpid(),
            slots=4,
            lease_seconds=lease_seconds,
            now=now,
        )

    def lease(
        self, worker_id: int, most: int = 1, *, skip: int = 0, now: float = 0.0, lease_seconds: float = 30.0
    ) -> list[Lease]:
        return leasing.lease(self.database, worker_id, most, skip=skip, lease_seconds=lease_seconds, now=now)

    def finish(
        self, worker_id: int, *finished: Finished, policy: RetryPolicy = POLICY, now: float = 0.0
    ) -> leasing.FinishReport:
        return leasing.finish(self.database, worker_id, finished, policy=policy, now=now)

    def try_once(self, outcome: Outcome, *, now: float = 0.0, **details: object) -> leasing.FinishReport:
        """Lease the one task that is due and end its attempt."""
        worker_id = self.worker(now=now)
        [lease] = self.lease(worker_id, 1, now=now)
        return self.finish(worker_id, ended(lease, outcome, **details), now=now)

    # --- what became of it ---

    def states(self) -> dict[int, State]:
        """Return each accepted task's state, from the tables."""
        return {
            seq: State(state)
            for seq, state in self.database.rows(
                "SELECT task.seq, coalesce(state.state, 1) FROM task LEFT JOIN state USING (seq) WHERE state.seq IS NOT NULL "
                "OR EXISTS (SELECT 1 FROM segment WHERE task.seq BETWEEN first_seq AND last_seq) ORDER BY task.seq"
            )
        }

    def counts(self) -> dict[State, int]:
        return {state: n for state, n in counters.by_state(self.database).items() if n}

    def attempts(self, seq: int) -> list[tuple[int, Outcome]]:
        """Return the numbers and outcomes of a task's attempts."""
        rows = self.database.rows("SELECT key % 1000, outcome FROM attempt WHERE key / 1000 = ? ORDER BY key", (seq,))
        return [(number, Outcome(outcome)) for number, outcome in rows]

    def dump(self, *without: str) -> dict[str, list[tuple[object, ...]]]:
        """Return everything in the ledger."""
        tables = [name for (name,) in self.database.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        kept = sorted(set(tables) - set(without) - {"sqlite_sequence"})
        return {name: sorted(self.database.rows(f"SELECT * FROM {name}"), key=repr) for name in kept}

    def check(self) -> None:
        """Count everything again and compare; what holds after every change."""
        states = self.states()
        database = self.database
        assert counters.by_state(database) == {state: list(states.values()).count(state) for state in State}
        assert counters.tallies(database)["inserted"] == len(states)
        kinds = Counter(kind for (kind,) in database.rows("SELECT kind FROM state WHERE state = 4"))
        assert {int(k): n for k, n in counters.by_failure_kind(database).items() if n} == dict(kinds)
        assert not database.rows("SELECT seq FROM state WHERE (state = 2) <> (worker_id IS NOT NULL)")
        assert not database.rows("SELECT seq FROM state WHERE kind <> 0 AND state <> 4")
        if not database.value("SELECT EXISTS (SELECT 1 FROM task WHERE function_id <> 0)"):  # else it may be run again
            assert not database.rows("SELECT key / 1000 FROM attempt WHERE outcome = 0 GROUP BY 1 HAVING count(*) > 1")
            assert database.value("SELECT count(*) FROM state WHERE state = 3") == database.value(
                "SELECT count(*) FROM attempt WHERE outcome = 0"
            )
        assert not database.rows("SELECT seq FROM state WHERE seq NOT IN (SELECT seq FROM task)")


def ended(lease: Lease, outcome: Outcome = Outcome.SUCCEEDED, **details: object) -> Finished:
    result = "1" if outcome is Outcome.SUCCEEDED else None
    error = None if outcome is Outcome.SUCCEEDED else f"{outcome.word}\nmore of it"
    values = {"started_at": 0.0, "elapsed_seconds": 1.0, "result": result, "error": error}
    return Finished(seq=lease.seq, attempt=lease.attempt, outcome=int(outcome), **(values | details))


class Child:
    """A forked process that runs a function; ``told`` waits until it has called its argument."""

    def __init__(self, function: Callable[[Callable[[], None]], None]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            signal.alarm(60)  # should the parent fail, no child outlives it for long
            try:
                os.close(reader)
                function(lambda: os.write(writer, b"."))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        self._reader = reader

    def told(self) -> bool:
        return os.read(self._reader, 1) == b"."

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def wait(self) -> int:
        os.close(self._reader)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def new_job(tmp_path):
    """Makes jobs; in the end the counts of each must be right."""
    jobs, numbers = [], count(1)

    def make() -> Job:
        jobs.append(Job(tmp_path / str(next(numbers))))
        return jobs[-1]

    yield make
    for job in jobs:
        if job.path.exists():
            job.check()
        job.close()


@pytest.fixture
def job(new_job):
    return new_job()


@pytest.fixture
def done():
    """Makes the record of an ended attempt out of a lease."""
    return ended


@pytest.fixture
def policy():
    return POLICY


@pytest.fixture
def fork(request):
    """Runs a function in a child, which opens its own connections: ``fork(function) -> Child``."""
    return Child


@pytest.fixture
def vm_steps():
    """Counts the steps of SQLite's machine that a function takes on a connection: ``vm_steps(database, function)``."""

    def count_steps(database, function):
        steps = 0

        def step():
            nonlocal steps
            steps += 1

        database._connection.set_progress_handler(step, 1)
        try:
            function()
        finally:
            database._connection.set_progress_handler(None, 0)
        return steps

    return count_steps


def pause():
    """Wait for the signal that ends this process."""
    while True:
        signal.pause()


@pytest.fixture
def die():
    """Ends the process it is called in, as ``kill -9`` would."""
    return lambda: os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def live_on():
    return pause
