"""The ledger's SQLite file: opening it, its version, its transactions.

Durability: the write-ahead log with ``synchronous=NORMAL`` survives the death of any process; after a power cut the last moments
may be gone, whole transactions at a time, so a finished task may run again but an accepted insertion, which is synced, stays.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from taskfleet.errors import LedgerError

#: Marks the file as ours (the SQLite header's application id): "tflt".
APPLICATION_ID = 0x74666C74

#: Numbered migrations; the file's ``user_version`` says how many it has had.
MIGRATIONS = ("001_ledger.sql",)

BUSY_TIMEOUT_SECONDS = 60.0

#: How much of the file each process keeps in memory, in KiB.
CACHE_KIB = 16 * 1024

Row = tuple[Any, ...]


class Database:
    """One connection to a ledger. Use it from one thread; forked children must not touch it.

    Raises:
        LedgerError: From every method, when the file is locked for longer than a minute, damaged, full or not writable.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    @contextmanager
    def transaction(self) -> Iterator["Database"]:
        """Take the write lock, commit at the end, roll back if anything is raised."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield self
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise
        self.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator["Database"]:
        """Read several things as they were at one instant, without keeping a writer waiting."""
        self.execute("BEGIN")
        try:
            yield self
        finally:
            if self._connection.in_transaction:
                self._connection.rollback()

    def execute(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        try:
            return self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise ledger_error(self.path, error) from error

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run one statement for each row; return how many rows of the table it changed in all."""
        try:
            return self._connection.executemany(sql, rows).rowcount
        except sqlite3.Error as error:
            raise ledger_error(self.path, error) from error

    def rows(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> list[Row]:
        """Run a query and fetch all its rows."""
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise ledger_error(self.path, error) from error

    def stream(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> Iterator[Row]:
        """Run a query and yield its rows as they are found."""
        try:
            yield from self._connection.execute(sql, parameters)
        except sqlite3.Error as error:
            raise ledger_error(self.path, error) from error

    def row(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> Row | None:
        """Run a query and fetch its first row, None if there is none."""
        try:
            found: Row | None = self._connection.execute(sql, parameters).fetchone()
        except sqlite3.Error as error:
            raise ledger_error(self.path, error) from error
        return found

    def value(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> Any:
        """Run a query for one value, None if there is no row."""
        found = self.row(sql, parameters)
        return None if found is None else found[0]

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back."""
        self._connection.close()


def create(path: Path, *, job_id: str, project: Path, now: float) -> Database:
    """Open the job's ledger, making the file and its folder if they are not there.

    Safe when several processes do it at once.

    Raises:
        LedgerError: The file is not a ledger, belongs to another job, or cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"The folder {path.parent} for the ledger cannot be made: {error.strerror}.") from error
    database = _connect(path, mode="rwc")
    with database.transaction():
        version = _version(database)
        if version == 0:
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for name in MIGRATIONS:
                _run_script(database, name)
            database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            database.execute("INSERT INTO job VALUES (?, ?, ?)", (job_id, str(project), now))
    _check_job(database, job_id)
    return database


def open_ledger(path: Path, *, job_id: str, read_only: bool = False) -> Database:
    """Open the ledger of a job that has one.

    Raises:
        LedgerError: There is no ledger, it belongs to another job, or it cannot be read.
    """
    if not path.exists():
        raise LedgerError(
            f"Job {job_id!r} has no ledger yet: {path} does not exist. Insert tasks first: poe insert_tasks"
        )
    database = _connect(path, mode="ro" if read_only else "rw")
    if _version(database) == 0:
        raise LedgerError(f"{path} is empty: no tasks were ever inserted. Insert tasks first: poe insert_tasks")
    _check_job(database, job_id)
    return database


def ledger_error(path: Path, error: sqlite3.Error) -> LedgerError:
    """Put what SQLite says into words that name the file and the remedy."""
    text = str(error)
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_BUSY") or "locked" in text:
        advice = "another process has held it for a minute; look for a stuck process that uses it"
    elif name.startswith("SQLITE_FULL"):
        advice = "the disk is full; make room and run the command again, nothing was lost"
    elif name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in text:
        advice = (
            "the file is damaged or is not a ledger; keep a copy, and restore it from a backup or use another JOB_ID"
        )
    elif name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        advice = "it cannot be opened or written; check the permissions of the file and of its folder"
    elif name.startswith("SQLITE_IOERR"):
        advice = "the disk or the network file system failed; check it and run the command again"
    else:
        advice = "this is not expected"
    return LedgerError(f"The ledger {path}: {text} ({name or 'no code'}): {advice}.")


def _connect(path: Path, *, mode: str) -> Database:
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS
        )
        database = Database(path, connection)
        if mode != "ro":
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA temp_store = FILE")
    except sqlite3.Error as error:
        raise ledger_error(path, error) from error
    return database


def _version(database: Database) -> int:
    """Give the number of migrations the file has had, 0 for a new one."""
    version = int(database.value("PRAGMA user_version"))
    application = int(database.value("PRAGMA application_id"))
    has_tables = database.value("SELECT count(*) FROM sqlite_schema") > 0
    if has_tables and application != APPLICATION_ID:
        raise LedgerError(f"{database.path} is an SQLite file, but not a ledger. Choose another LEDGER_PATH or JOB_ID.")
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"{database.path} was made by a newer version of taskfleet (ledger version {version}, this one knows up to "
            f"{len(MIGRATIONS)}). Update shared_lib/ in this project."
        )
    return version


def _check_job(database: Database, job_id: str) -> None:
    found = database.value("SELECT job_id FROM job")
    if found != job_id:
        raise LedgerError(
            f"{database.path} is the ledger of job {found!r}, not of {job_id!r}. Change JOB_ID or LEDGER_PATH."
        )


def _run_script(database: Database, name: str) -> None:
    """Run a file of statements inside the open transaction (``executescript`` would commit it)."""
    text = (resources.files(__package__) / "sql" / name).read_text(encoding="utf-8")
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            database.execute(statement)
            statement = ""
