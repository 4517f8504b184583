"""The ledger's SQLite file: opening it, its version, its transactions.

Durability: the write-ahead log with ``synchronous=NORMAL`` survives the death of any process; after a power cut the last moments
may be gone, whole transactions at a time, so a finished task may run again but an accepted insertion, which is synced, stays.
"""

import sqlite3
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from taskfleet.errors import LedgerError
from taskfleet.ledger.shared_files import Witness, check_locks, is_shared

#: Marks the file as ours (the SQLite header's application id): "tflt".
APPLICATION_ID = 0x74666C74

#: Numbered migrations; the file's ``user_version`` says how many it has had.
MIGRATIONS = (
    "001_ledger.sql",
    "002_queues.sql",
    "003_machines.sql",
    "004_machines_codes.sql",
    "005_small_insertions.sql",
)

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
        self.witness: Witness | None = None
        """For a ledger that several hosts share."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator["Database"]:
        """Take the write lock, commit at the end, roll back if anything is raised.

        Args:
            durable: Have the disk synced before the lock is released: what was committed, and all before it, survives a power cut.
        """
        level = self.value("PRAGMA synchronous") if durable else None
        if durable:
            self.execute("PRAGMA synchronous = FULL")
        try:
            self.execute("BEGIN IMMEDIATE")
            if self.witness is not None:
                self.witness.enter()
            yield self
            if self.witness is not None:
                self.witness.check()
            self.execute("COMMIT")  # inside the try: when it fails, the transaction is still open
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            raise
        finally:
            if durable:
                self.execute(f"PRAGMA synchronous = {level}")

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


def create(path: Path, *, job_id: str, project: Path, now: float, shared: bool | None = None) -> Database:
    """Open the job's ledger, making the file and its folder if they are not there.

    Safe when several processes do it at once.

    Args:
        path: The file.
        job_id: The job it is for.
        project: The project's folder; projects are told apart by their names.
        now: Seconds since the epoch.
        shared: Whether several hosts will use a new file; None to look at the file system. A file keeps what it was made for.

    Raises:
        LedgerError: The file is not a ledger, belongs to another job or project, or cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(f"The folder {path.parent} for the ledger cannot be made: {error.strerror}.") from error
    database = _connect(path, mode="rwc", shared=is_shared(path.parent) if shared is None else shared)
    with _closed_on_error(database):
        with database.transaction():
            if _migrate(database) == 0:
                database.execute(
                    "INSERT INTO job (job_id, project, created_at) VALUES (?, ?, ?)",
                    (job_id, project_name(project), now),
                )
        _check_job(database, job_id, project)
    return database


def open_ledger(path: Path, *, job_id: str, project: Path | None = None, read_only: bool = False) -> Database:
    """Open the ledger of a job that has one; an older one is brought up to date.

    Raises:
        LedgerError: There is no ledger, it belongs to another job or project, or it cannot be read.
    """
    if not path.exists():
        raise LedgerError(
            f"Job {job_id!r} has no ledger yet: {path} does not exist. Insert tasks first: poe insert_tasks"
        )
    database = _connect(path, mode="ro" if read_only else "rw", shared=False)
    with _closed_on_error(database):
        version = _version(database)
        if version == 0:
            raise LedgerError(f"{path} is empty: no tasks were ever inserted. Insert tasks first: poe insert_tasks")
        if version < len(MIGRATIONS):
            if read_only:
                database.close()
                return open_ledger(path, job_id=job_id, project=project)
            with database.transaction():
                _migrate(database)
        _check_job(database, job_id, project)
    return database


def project_name(project: Path) -> str:
    """Return the name by which a project is known: that of its pyproject.toml, else of its folder."""
    try:
        text = (project / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["project"]["name"])
    except (OSError, ValueError, KeyError):
        return project.name


def as_json(numbers: Iterable[int]) -> str:
    """Return numbers as the JSON text that SQLite's ``json_each`` takes apart, in rising order."""
    return f"[{','.join(map(str, sorted(numbers)))}]"


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


def _connect(path: Path, *, mode: str, shared: bool) -> Database:
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_SECONDS
        )
    except sqlite3.Error as error:
        raise ledger_error(path, error) from error
    database = Database(path, connection)
    with _closed_on_error(database):
        is_new = _version(database) == 0  # before the first change: a file of somebody else's stays as it is
        if is_new and mode != "ro" and not shared:
            _use_write_ahead_log(database)
        if database.value("PRAGMA journal_mode") == "wal":
            database.execute("PRAGMA synchronous = NORMAL")
        elif mode != "ro":
            check_locks(path.parent)
            database.witness = Witness(path)
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        database.execute("PRAGMA temp_store = FILE")
    return database


@contextmanager
def _closed_on_error(database: Database) -> Iterator[None]:
    try:
        yield
    except BaseException:
        database.close()
        raise


def _use_write_ahead_log(database: Database) -> None:
    """Switch over, which SQLite refuses without waiting while another process is doing the same."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except LedgerError as error:
            name = getattr(error.__cause__, "sqlite_errorname", "")
            if not name.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _version(database: Database) -> int:
    """Return the number of migrations the file has had, 0 for a new one."""
    version, application, has_tables = database.rows(  # one statement, so of one instant: the file may be in the making
        "SELECT user_version, application_id, EXISTS (SELECT 1 FROM sqlite_schema) FROM pragma_user_version, pragma_application_id"
    )[0]
    if has_tables and application != APPLICATION_ID:
        raise LedgerError(f"{database.path} is an SQLite file, but not a ledger. Choose another LEDGER_PATH or JOB_ID.")
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"{database.path} was made by a newer version of taskfleet (ledger version {version}, this one knows up to "
            f"{len(MIGRATIONS)}). Update shared_lib/ in this project."
        )
    return int(version)


def _migrate(database: Database) -> int:
    """Bring the file up to date, inside the open transaction; return the version it had."""
    version = _version(database)
    if version < len(MIGRATIONS):
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for name in MIGRATIONS[version:]:
            _run_script(database, name)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    return version


def _check_job(database: Database, job_id: str, project: Path | None) -> None:
    found, owner = database.row("SELECT job_id, project FROM job") or ("", "")
    if found != job_id:
        raise LedgerError(
            f"{database.path} is the ledger of job {found!r}, not of {job_id!r}. Change JOB_ID or LEDGER_PATH."
        )
    if project is not None and owner != project_name(project):
        raise LedgerError(
            f"{database.path} is the ledger of a job of another project: {owner!r}, not {project_name(project)!r}. Change JOB_ID or "
            "LEDGER_PATH; if the project was renamed, its jobs go on under the old name only."
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
