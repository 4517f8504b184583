"""The ledger's file: whose it is, what can be wrong with it, its transactions."""

import os
import re
import sqlite3
from pathlib import Path

import pytest
from taskfleet.errors import LedgerError
from taskfleet.ledger import connection, insertion
from taskfleet.ledger.database import create, open_ledger
from taskfleet.ledger.sqlite_errors import ledger_error
from taskfleet.version import VERSION


def opened(path, how):
    if how == "create":
        return create(path, job_id="job", project=path.parent, now=0.0)
    return open_ledger(path, job_id="job", read_only=how == "read only")


OPENINGS = ["create", "open", "read only"]


@pytest.fixture(params=OPENINGS)
def refused(request):
    """Opens a ledger in each way; it must be refused with an error that matches."""

    def refused(path, pattern):
        with pytest.raises(LedgerError, match=pattern) as error:
            opened(path, request.param)
        assert str(path) in str(error.value)

    return refused


def test_another_jobs_ledger_is_refused(tmp_path, refused):
    path = tmp_path / "a.db"
    create(path, job_id="other", project=tmp_path, now=0.0).close()
    before = path.read_bytes()
    refused(path, r"is the ledger of job 'other', not of 'job'\. Change JOB_ID or LEDGER_PATH")
    assert path.read_bytes() == before


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_foreign_sqlite_file_is_refused_and_left_as_it_is(tmp_path, refused, journal):
    path = tmp_path / "a.db"
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA journal_mode = {journal}")
    raw.execute("CREATE TABLE stamps (n)")
    raw.close()
    before = path.read_bytes()
    refused(path, r"is an SQLite file, but not a ledger\. Choose another LEDGER_PATH or JOB_ID")
    assert path.read_bytes() == before


def test_a_foreign_sqlite_file_with_a_version_is_refused(tmp_path, refused):
    path = tmp_path / "a.db"
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE stamps (n)")
    raw.execute("PRAGMA user_version = 1")
    raw.close()
    refused(path, "not a ledger")


@pytest.mark.parametrize("text", ["ab", "hello\n" * 1000])
def test_a_text_file_is_refused(tmp_path, refused, text):
    path = tmp_path / "a.db"
    path.write_text(text)
    refused(path, r"damaged or is not a ledger; keep a copy")
    assert path.read_text() == text


def test_a_folder_is_refused(tmp_path, refused):
    refused(tmp_path, "check the permissions|check it")


@pytest.mark.parametrize("how", ["open", "read only"])
def test_a_missing_ledger_says_what_to_do(tmp_path, how):
    path = tmp_path / "a.db"
    with pytest.raises(LedgerError, match=r"Job 'job' has no ledger yet: .*a\.db does not exist.*poe insert_tasks"):
        opened(path, how)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["open", "read only"])
def test_an_empty_file_says_what_to_do(tmp_path, how):
    path = tmp_path / "a.db"
    path.touch()
    with pytest.raises(LedgerError, match=r"is empty: .*poe insert_tasks"):
        opened(path, how)


def test_an_empty_file_becomes_a_ledger(tmp_path):
    path = tmp_path / "a.db"
    path.touch()
    opened(path, "create").close()
    opened(path, "open").close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"The folder .*/file/sub for the ledger cannot be created: Not a directory"):
        opened(tmp_path / "file" / "sub" / "a.db", "create")


@pytest.mark.parametrize("kept", [50, 1000, 5000, 0.5, 0.97])
def test_a_truncated_ledger_is_one_error(job, kept):
    job.insert(2000)
    job.close()
    whole = job.path.read_bytes()
    job.path.write_bytes(whole[: kept if kept > 1 else int(len(whole) * kept)])
    with pytest.raises(LedgerError, match="damaged or is not a ledger; keep a copy"):
        look_at_everything(job)
    job.close()
    job.path.write_bytes(whole)


@pytest.mark.parametrize("place", [0, 40, 8192, 20000])
def test_a_damaged_ledger_is_one_error(job, place):
    job.insert(2000)
    job.close()
    whole = job.path.read_bytes()
    job.path.write_bytes(whole[:place] + b"\xa5" * 8192 + whole[place + 8192 :])
    with pytest.raises(LedgerError):
        look_at_everything(job)
    job.close()
    job.path.write_bytes(whole)


def look_at_everything(job):
    job.dump()
    job.database.rows("SELECT id FROM task ORDER BY id")
    job.lease(job.worker(), 5000)


def test_a_ledger_in_a_folder_that_cannot_be_written(tmp_path, permissions):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(LedgerError, match="check the permissions of the file and of its folder"):
        opened(folder / "a.db", "create")


def test_a_full_ledger_says_that_the_disk_is_full(job):
    pages = job.database.value("PRAGMA page_count")
    job.database.execute(f"PRAGMA max_page_count = {pages}")
    before = job.dump()
    with pytest.raises(LedgerError, match="the disk is full; free disk space and run the command again"):
        job.insert(10_000)
    job.close()
    insertion.begin(job.database, source="t", clock=lambda: 1e12).discard()
    assert job.dump() == before


@pytest.mark.parametrize("name", ["a b.db", "50%.db", "a?mode=ro.db", "a#b.db", "ä.db", "%41.db"])
def test_any_file_name_will_do(tmp_path, name):
    opened(tmp_path / "sub folder" / name, "create").close()
    assert [path.name for path in (tmp_path / "sub folder").iterdir()] == [name]
    opened(tmp_path / "sub folder" / name, "open").close()


def test_a_relative_path_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("sub/a.db")
    opened(path, "create").close()
    opened(path, "read only").close()
    assert (tmp_path / "sub" / "a.db").exists()


def test_creating_again_opens_what_is_there(job):
    job.insert(3)
    before = job.dump()
    again = create(job.path, job_id="job", project=job.folder, now=99.0)
    assert again.rows("SELECT * FROM job") == [("job", job.folder.name, 0.0, None, 9, VERSION)]
    again.close()
    assert job.dump() == before


def test_a_reader_cannot_write(job):
    reader = open_ledger(job.path, job_id="job", read_only=True)
    with pytest.raises(LedgerError, match="cannot be opened or written"):
        reader.execute("DELETE FROM job")
    reader.close()


def test_several_processes_can_create_at_once(tmp_path, fork):
    for round_number in range(10):
        path = tmp_path / str(round_number) / "a.db"
        gate_reader, gate = os.pipe()

        def create_one(tell, path=path, gate_reader=gate_reader, gate=gate):
            os.close(gate)
            os.read(gate_reader, 1)
            database = create(path, job_id="job", project=path.parent, now=0.0)
            with database.transaction():
                database.execute("INSERT INTO tally VALUES ('here', 1) ON CONFLICT DO UPDATE SET n = n + 1")
            database.close()

        children = [fork(create_one) for _ in range(6)]
        os.close(gate_reader)
        os.close(gate)  # all start now
        assert [child.wait() for child in children] == [0] * 6
        database = opened(path, "read only")
        assert database.value("SELECT n FROM tally") == 6
        assert database.value("SELECT count(*) FROM job") == 1
        database.close()


def test_a_ledger_in_the_making_is_never_taken_for_a_foreign_file(tmp_path, fork):
    """Others look at the file, again and again, while it is made."""
    for round_number in range(30):
        path = tmp_path / f"{round_number}.db"
        path.touch()

        def look(tell, path=path):
            tell()
            while True:
                try:
                    open_ledger(path, job_id="job").close()
                    break
                except LedgerError as error:
                    if "is empty" not in str(error):
                        raise

        children = [fork(look) for _ in range(2)]
        assert all(child.told() for child in children)
        create(path, job_id="job", project=tmp_path, now=0.0).close()
        assert [child.wait() for child in children] == [0, 0]


# --- transactions ---


def change(database, *statements):
    with database.transaction():
        for statement in statements:
            database.execute(statement)


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, LedgerError])
def test_a_transaction_is_rolled_back_on_any_exception(job, exception):
    before = job.dump()

    def change_and_raise():
        with job.database.transaction():
            job.database.execute("DELETE FROM job")
            raise exception

    with pytest.raises(exception):
        change_and_raise()
    assert not job.database.in_transaction
    assert job.dump() == before
    job.insert(1)


def test_a_transaction_is_rolled_back_when_its_statement_fails(job):
    with pytest.raises(LedgerError, match=r"job\.db: no such table: absent"):
        change(job.database, "DELETE FROM job", "DELETE FROM absent")
    assert not job.database.in_transaction
    assert len(job.dump()["job"]) == 1


def test_a_transaction_that_cannot_be_committed_leaves_nothing_open(job):
    database = job.database
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("CREATE TEMP TABLE parent (a INTEGER PRIMARY KEY)")
    database.execute("CREATE TEMP TABLE child (a REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(LedgerError, match="FOREIGN KEY"):
        change(database, "DELETE FROM job", "INSERT INTO child VALUES (1)")  # found out at the commit
    assert not database.in_transaction
    assert len(job.dump()["job"]) == 1
    job.insert(1)


def test_what_was_committed_is_seen_by_others_and_what_was_not_is_not(job):
    other = job.connect()
    with job.database.transaction():
        job.database.execute("DELETE FROM job")
        assert other.value("SELECT count(*) FROM job") == 1
    assert other.value("SELECT count(*) FROM job") == 0


def test_a_snapshot_is_of_one_instant_and_keeps_nobody_waiting(job):
    other = job.connect()
    with job.database.snapshot() as database:
        assert database.value("SELECT count(*) FROM task") == 0
        with other.transaction():
            other.execute("INSERT INTO tally VALUES ('x', 1)")
        assert database.value("SELECT count(*) FROM tally") == 0
    assert job.database.value("SELECT count(*) FROM tally") == 1
    with pytest.raises(ValueError, match="mine"), job.database.snapshot():
        raise ValueError("mine")
    assert not job.database.in_transaction


@pytest.mark.parametrize("how", ["create", "open"])
def test_a_ledger_that_is_locked_for_too_long_says_so(job, monkeypatch, how):
    monkeypatch.setattr(connection, "BUSY_TIMEOUT_SECONDS", 0.05)

    def write():
        other = opened(job.path, how)
        try:
            change(other, "INSERT INTO tally VALUES ('x', 1)")
        finally:
            other.close()

    with job.database.transaction(), pytest.raises(LedgerError, match=r"is locked .*look for a stuck process"):
        write()
    opened(job.path, how).close()


def test_a_ledger_that_is_locked_for_a_moment_is_waited_for(job, fork):
    job.insert(1)
    job.close()

    def hold(tell):
        database = open_ledger(job.path, job_id="job")
        with database.transaction():
            tell()
            for n in range(20_000):
                database.execute("INSERT INTO tally VALUES (?, 1)", (str(n),))

    child = fork(hold)
    assert child.told()
    assert len(job.lease(job.worker())) == 1
    assert job.database.value("SELECT count(*) FROM tally") > 20_000
    assert child.wait() == 0


def test_accepted_tasks_are_synced_to_the_disk(job):
    """What was written before into the same log is synced with them."""
    database, statements = job.database, []
    under_way = insertion.begin(database, source="t")
    under_way.add(["a"], ["1"], ids_are_derived=False, now=0.0)
    assert database.value("PRAGMA synchronous") == 1
    database._connection.set_trace_callback(statements.append)
    under_way.accept(0.0)
    database._connection.set_trace_callback(None)
    [synced] = [n for n, text in enumerate(statements) if text == "PRAGMA synchronous = FULL"]
    assert statements[synced + 1] == "BEGIN IMMEDIATE"
    ended = statements.index("COMMIT", synced)
    assert any(text.startswith("UPDATE insertion SET accepted_at") for text in statements[synced:ended])
    assert statements[ended + 1] == "PRAGMA synchronous = 1"
    assert database.value("PRAGMA synchronous") == job.connect().value("PRAGMA synchronous") == 1
    assert database.value("PRAGMA journal_mode") == "wal"


def test_a_transaction_that_fails_while_it_is_to_be_synced_leaves_the_connection_as_it_was(job):
    with pytest.raises(LedgerError), job.database.transaction(durable=True) as database:
        database.execute("INSERT INTO nothing VALUES (1)")
    assert job.database.value("PRAGMA synchronous") == 1
    assert not job.database.in_transaction


def test_every_method_raises_only_our_errors(job):
    database = job.database
    for call in (
        lambda: database.execute("SELECT absent"),
        lambda: database.execute_many("INSERT INTO absent VALUES (?)", [(1,)]),
        lambda: database.rows("SELECT absent"),
        lambda: list(database.stream("SELECT absent")),
        lambda: database.row("SELECT absent"),
        lambda: database.value("SELECT absent"),
    ):
        with pytest.raises(LedgerError, match=r"job\.db: no such (column|table): absent"):
            call()


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("SQLITE_BUSY_SNAPSHOT", "database is locked", "stuck process"),
        ("SQLITE_FULL", "database or disk is full", "free disk space"),
        ("SQLITE_CORRUPT_VTAB", "x", "restore it from a backup"),
        ("SQLITE_READONLY_DBMOVED", "x", "check the permissions"),
        ("SQLITE_IOERR_WRITE", "disk I/O error", "disk or the network file system failed"),
        ("SQLITE_MISUSE", "x", "error is unexpected"),
    ],
)
def test_what_sqlite_says_is_put_into_words(tmp_path, name, text, remedy):
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    assert re.search(
        rf"^The ledger /x/a\.db: {re.escape(text)} \({name}\): .*{remedy}",
        str(ledger_error(Path("/x/a.db"), error)),
    )
