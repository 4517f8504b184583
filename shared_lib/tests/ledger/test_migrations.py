"""Ledgers of one version in the hands of another: migrated, read without being changed, or refused."""

import re
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from taskfleet.errors import LedgerError
from taskfleet.ledger import connection as connections
from taskfleet.ledger import counters, migrations, queries, repair
from taskfleet.ledger.database import create, open_ledger
from taskfleet.ledger.leasing import register
from taskfleet.ledger.migrations import MIGRATIONS, Migration
from taskfleet.ledger.small_insertion import insert_few
from taskfleet.processes.identity import identity
from taskfleet.tasks import Finished, Outcome, State
from taskfleet.version import VERSION

from shared_lib.tests.ledger.sources import python_texts, sql_texts

TABLES = (
    "job",
    "insertion",
    "task",
    "task_id",
    "segment",
    "state",
    "attempt",
    "worker",
    "counter",
    "tally",
    "duration",
)
#: A later version adds a table, and a column to each of those that there are.
ADDS = "CREATE TABLE added (n INTEGER NOT NULL DEFAULT 7) STRICT;\n" + "".join(
    f"ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT 'x';\n" for table in TABLES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Later(Migration):
    """A migration of a later version."""

    sql: str

    def script(self):
        return self.sql


@pytest.fixture
def later_version():
    """``with later_version(sql, is_breaking=...):`` the library is a version that has one more migration."""

    @contextmanager
    def later(sql=ADDS, *, is_breaking=False):
        with pytest.MonkeyPatch.context() as patch:
            one = Later(name="later", sql=sql, is_breaking=is_breaking)
            patch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, one))
            patch.setattr(migrations, "VERSION", "9.9.9")
            yield

    return later


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(connections, "EXCLUSIVE_TIMEOUT_SECONDS", 0.1)


def opened(path, **how):
    return open_ledger(path, job_id="job", **how)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def copy_of(job):
    """The copy that was made before a breaking migration."""
    return job.path.with_name(f"job.before-{VERSION}.db")


def numbers(path):
    raw = sqlite3.connect(path)
    try:
        [schema] = raw.execute("PRAGMA user_version").fetchone()
        return schema, *raw.execute("SELECT oldest_writer, version FROM job").fetchone()
    finally:
        raw.close()


# --- the rule ---


def test_every_insert_of_the_library_names_its_columns():
    """Or code of an earlier version would fail on a table that has got a column since."""
    inserts = [
        (name, found[0])
        for name, text in [*python_texts(), *sql_texts()]
        for found in re.finditer(r"\b(INSERT|REPLACE)(\s+OR\s+\w+)?\s+INTO\s+[\w.{}]+\s*\S", text)
    ]
    assert len(inserts) > 20
    assert [one for one in inserts if not re.search(r"INTO\s+[\w.{}]+\s*\(", one[1])] == []


def test_additive_migrations_leave_who_may_write_and_breaking_ones_raise_it():
    writers = [0, 1, 2, 2, 4, 5, 5, 7, 7, 9, 9, 9, 9, 9]
    assert [migrations.oldest_writer(schema) for schema in range(len(MIGRATIONS) + 1)] == writers


def test_a_new_ledger_has_both_numbers_and_the_version(job):
    job.close()
    assert numbers(job.path) == (len(MIGRATIONS), 9, VERSION)


def test_the_version_is_that_of_the_package():
    assert metadata.version("taskfleet") == VERSION


# --- an older version on a newer ledger ---


def use_in_every_way(job):
    """Insert, lease, end attempts in every way, put back, kill; the identity of the ledger holds after it."""
    job.insert(6)
    insert_few(job.database, ["few"], ["{}"])
    worker_id = job.worker()
    leases = job.lease(worker_id, 5)
    ends = [Outcome.SUCCEEDED, Outcome.EXCEPTION, Outcome.MEMORY, Outcome.INTERRUPTED, Outcome.LOST]
    ended = [
        Finished(one.seq, one.attempt, int(end), 0.0, 1.0, result="1" if end is Outcome.SUCCEEDED else None)
        for one, end in zip(leases, ends, strict=True)
    ]
    job.finish(worker_id, *ended)
    assert repair.retry(job.database, kinds=[Outcome.MEMORY]) == 1
    assert repair.purge(job.database) > 0
    assert repair.retry(job.database, killed=True) > 0
    found = {state: n for state, n in counters.by_state(job.database).items() if n}
    assert found == {State.SUCCEEDED: 1, State.PENDING: 6}
    lines = list(queries.list_tasks(job.database))
    assert sum(line.state is State.PENDING for line in lines) == 6


def test_an_older_version_works_on_a_ledger_with_additions_of_a_newer_one(job, later_version):
    job.close()
    with later_version():
        opened(job.path).close()
    assert numbers(job.path) == (len(MIGRATIONS) + 1, 9, "9.9.9")
    use_in_every_way(job)
    job.close()
    assert numbers(job.path) == (len(MIGRATIONS) + 1, 9, "9.9.9")
    reader = opened(job.path, read_only=True)
    assert counters.tallies(reader)["inserted"] == 7
    reader.close()


def test_a_running_worker_goes_on_while_a_newer_version_migrates_its_ledger(job, later_version):
    job.insert(3)
    worker_id = job.worker()
    [lease] = job.lease(worker_id)
    with later_version():
        opened(job.path).close()
    assert not job.finish(worker_id, Finished(lease.seq, lease.attempt, 0, 0.0, 1.0, result="1")).duplicates
    assert len(job.lease(worker_id, 5)) == 2
    assert job.connect().value("SELECT count(*) FROM worker") == 1


@pytest.mark.parametrize("how", [{}, {"read_only": True}, None], ids=["to write", "to read", "to create"])
def test_an_older_version_is_refused_on_a_ledger_that_a_newer_one_changed_for_good(job, later_version, how):
    job.close()
    with later_version(is_breaking=True):
        opened(job.path).close()
    before = files(job.folder)
    n = len(MIGRATIONS)
    words = rf"(?s)9\.9\.9.*schema {n + 1}.*taskfleet {VERSION} \(schema {n}\).*Update shared_lib"
    with pytest.raises(LedgerError, match=words):
        opened(job.path, **how) if how is not None else create(job.path, job_id="job", project=job.folder, now=0.0)
    assert files(job.folder) == before
    copy_of(job).replace(job.path)


# --- a newer version on an older ledger ---


def test_an_older_ledger_is_read_as_if_it_were_migrated_and_not_changed(job, later_version, caplog):
    job.insert(3)
    job.close()
    before = files(job.folder)
    with later_version():
        reader = opened(job.path, read_only=True)
        assert reader.rows("SELECT * FROM added") == []
        assert reader.row("SELECT job_id, later FROM job") == ("job", "x")
        assert reader.value("SELECT count(*) FROM task WHERE later = 'x'") == 3
        with pytest.raises(LedgerError, match="cannot be opened or written"):
            reader.execute("UPDATE main.counter SET n = 0")
        reader.close()
    assert files(job.folder) == before
    assert "The next insert_tasks, launch_worker or monitor brings it up to date" in caplog.text


def test_reading_leaves_no_files_behind_and_a_log_of_others_as_it_is(job):
    job.insert(3)
    job.close()
    before = files(job.folder)
    opened(job.path, read_only=True).close()
    assert files(job.folder) == before
    assert len(job.lease(job.worker())) == 1  # and its log is there, as this connection is open
    log = Path(f"{job.path}-wal").read_bytes()
    reader = opened(job.path, read_only=True)
    assert reader.value("SELECT count(*) FROM state") == 1
    reader.close()
    assert Path(f"{job.path}-wal").read_bytes() == log


def test_a_ledger_of_the_first_schemas_has_to_be_migrated_to_be_read(tmp_path):
    path = tmp_path / "a.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", MIGRATIONS[:2])
        create(path, job_id="job", project=tmp_path, now=0.0).close()
    with pytest.raises(LedgerError, match="reads schema 3 or later"):
        opened(path, read_only=True)
    opened(path).close()
    opened(path, read_only=True).close()


def test_an_addition_is_made_by_the_next_writer_without_a_copy(job, later_version):
    job.insert(3)
    job.close()
    with later_version():
        opened(job.path).close()
    assert [path.name for path in job.folder.iterdir()] == ["job.db"]
    assert numbers(job.path)[0] == len(MIGRATIONS) + 1


@pytest.mark.parametrize("is_breaking", [False, True])
def test_a_migration_that_fails_leaves_the_ledger_as_it_was(job, later_version, is_breaking):
    job.insert(3)
    before = job.dump()
    job.close()
    twice = "CREATE TABLE added (n INTEGER) STRICT;\n" * 2
    with later_version(twice, is_breaking=is_breaking), pytest.raises(LedgerError, match="already exists"):
        opened(job.path)
    assert numbers(job.path) == (len(MIGRATIONS), 9, VERSION)
    assert job.dump() == before


def test_a_breaking_migration_keeps_a_copy_that_the_former_version_can_use(job, later_version):
    job.insert(3)
    before = job.dump()
    job.close()
    with later_version("DROP TABLE throughput;\n", is_breaking=True):
        opened(job.path).close()
    assert numbers(job.path) == (len(MIGRATIONS) + 1, len(MIGRATIONS) + 1, "9.9.9")
    assert sorted(path.name for path in job.folder.iterdir()) == [copy_of(job).name, "job.db"]
    copy_of(job).replace(job.path)
    assert job.dump() == before
    assert job.database.value("PRAGMA journal_mode") == "wal"
    use_in_every_way(job)


@pytest.mark.parametrize("is_reader", [False, True])
def test_a_breaking_migration_waits_until_nobody_uses_the_ledger(job, later_version, is_reader):
    job.insert(3)
    worker_id = register(
        job.database, hostname="here", process=identity(), pid=123, slots=1, lease_seconds=1e10, now=0.0
    )
    if is_reader:
        job.close()
        reader = opened(job.path, read_only=True)
    before = job.path.read_bytes()
    with later_version("DROP TABLE throughput;\n", is_breaking=True):
        with pytest.raises(LedgerError, match=r"worker 123 on here uses it.*Let it finish or stop it"):
            opened(job.path)
        assert job.path.read_bytes() == before
        assert not list(job.folder.glob("*.before*"))
        if is_reader:
            reader.close()
        else:
            assert len(job.lease(worker_id, 2)) == 2
            job.close()
        opened(job.path).close()
    copy_of(job).replace(job.path)


def test_on_a_shared_file_system_the_workers_leases_tell_whether_a_ledger_is_used(tmp_path, later_version):
    """SQLite cannot tell there whether another host has the file open."""
    path = tmp_path / "a.db"
    database = create(path, job_id="job", project=tmp_path, now=0.0, shared=True)
    register(database, hostname="elsewhere", process="x|1|2|3", pid=1, slots=1, lease_seconds=1e10, now=0.0)
    database.close()
    with (
        later_version("DROP TABLE throughput;\n", is_breaking=True),
        pytest.raises(LedgerError, match="worker 1 on elsewhere uses it"),
    ):
        opened(path)
    database = opened(path)
    database.execute("UPDATE worker SET ended_at = 1.0")
    database.close()
    with later_version("DROP TABLE throughput;\n", is_breaking=True):
        opened(path).close()
    assert numbers(path)[0] == len(MIGRATIONS) + 1


def test_versions_that_work_on_a_job_are_counted(job):
    job.worker()
    job.worker()
    job.database.execute("UPDATE worker SET version = '0.0.9' WHERE worker_id = 1")
    found = queries.library_versions(job.database)
    assert (found.job, found.workers, found.machines) == (VERSION, {"0.0.9": 1, VERSION: 1}, {})
    assert found.is_mixed
    job.database.execute("UPDATE worker SET ended_at = 1.0 WHERE worker_id = 1")
    assert not queries.library_versions(job.database).is_mixed
