"""One connection to a ledger's SQLite file, and its transactions.

Durability: the write-ahead log with ``synchronous=NORMAL`` survives the death of any process. A power cut may undo the last
transactions, so a finished task may run again; an accepted insertion is synced and stays.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from taskfleet.errors import LedgerError, UnusableLedgerError
from taskfleet.files import open_private
from taskfleet.ledger.migrations import Schema, read_schema
from taskfleet.ledger.shared_files import LockProbe, Witness, check_locks
from taskfleet.ledger.sqlite_errors import ERRORS, as_ledger_errors, is_busy, ledger_error

BUSY_TIMEOUT_SECONDS = 60.0
#: How long a breaking migration waits for other processes to close the file.
EXCLUSIVE_TIMEOUT_SECONDS = 5.0
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
        self._file: tuple[int, int] | None = None
        """Device and inode of the file, from the first transaction on."""
        self.witness: Witness | None = None
        """For a ledger that several hosts share."""
        self.probe: LockProbe | None = None
        """For the same."""

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
            self.check_file()
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

    def check_file(self) -> None:
        """Check that the path still refers to the open file: writes to a deleted file are lost.

        Raises:
            UnusableLedgerError: The file was deleted or replaced.
        """
        try:
            found = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UnusableLedgerError(
                f"The ledger {self.path} was deleted while it was in use. What was recorded in it is lost, unless it was only moved: "
                "then move it back and run the command again."
            ) from error
        except OSError:  # a file system that does not respond: SQLite reports it
            return
        file = found.st_dev, found.st_ino
        self._file = self._file or file
        if file != self._file:
            raise UnusableLedgerError(
                f"The ledger {self.path} was replaced by another file while it was in use. Nothing more is written to either. "
                "Restore the right one and run the command again."
            )

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
        except ERRORS as error:
            raise ledger_error(self.path, error) from error

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> int:
        """Run one statement for each row; return how many rows of the table it changed in all."""
        try:
            return self._connection.executemany(sql, rows).rowcount
        except ERRORS as error:
            raise ledger_error(self.path, error) from error

    def rows(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> list[Row]:
        """Run a query and fetch all its rows."""
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except ERRORS as error:
            raise ledger_error(self.path, error) from error

    def stream(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> Iterator[Row]:
        """Run a query and yield its rows as they are found."""
        try:
            cursor = self._connection.execute(sql, parameters)
            for row in cursor:  # noqa: UP028 - "yield from" would close the cursor, perhaps after the connection
                yield row
        except ERRORS as error:
            raise ledger_error(self.path, error) from error

    def row(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> Row | None:
        """Run a query and fetch its first row, None if there is none."""
        try:
            found: Row | None = self._connection.execute(sql, parameters).fetchone()
        except ERRORS as error:
            raise ledger_error(self.path, error) from error
        return found

    def value(self, sql: str, parameters: Sequence[object] | dict[str, object] = ()) -> Any:
        """Run a query for one value, None if there is no row."""
        found = self.row(sql, parameters)
        return None if found is None else found[0]

    def schema(self) -> Schema:
        """Return which migrations the file has had, and who may write it.

        Raises:
            LedgerError: It is not a ledger, or this version of the library is too old for it.
        """
        with as_ledger_errors(self.path):
            return read_schema(self.path, self._connection)

    def forbid_writing(self) -> None:
        """Refuse every change from now on, also of temporary tables."""
        self.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """Close the connection; what was not committed is rolled back."""
        if self.probe is not None:
            self.probe.close()
        self._connection.close()


def as_json(numbers: Iterable[int]) -> str:
    """Return numbers as the JSON text that SQLite's ``json_each`` takes apart, in rising order."""
    return f"[{','.join(map(str, sorted(numbers)))}]"


def connect(path: Path, *, shared: bool = False, create: bool = False, exclusive: bool = False) -> Database:
    """Connect to a file in order to write it.

    Args:
        path: The file.
        shared: Whether several hosts will use a new file.
        create: Make the file if it does not exist.
        exclusive: Keep every other process out from the first access on; that access fails if one has the file open.
    """
    if create:
        # SQLite fills an empty file. One that exists is not opened: closing it would release the locks of this process on it.
        with suppress(OSError):
            os.close(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    timeout = EXCLUSIVE_TIMEOUT_SECONDS if exclusive else BUSY_TIMEOUT_SECONDS
    database = _open(path, "rwc" if create else "rw", timeout)
    with closed_on_error(database):
        if exclusive:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_new = database.schema().number == 0  # before the first change: a file of another program stays as it is
        if is_new and not shared:
            _use_write_ahead_log(database)
        if database.value("PRAGMA journal_mode") == "wal":
            database.execute("PRAGMA synchronous = NORMAL")
        else:
            check_locks(path.parent)
            database.witness, database.probe = Witness(path), LockProbe(path)
    return database


def connect_to_read(path: Path) -> Database:
    """Connect to a file so that neither it nor the files beside it are changed; see also ``Database.forbid_writing``."""
    database = _open(path, "ro", BUSY_TIMEOUT_SECONDS)
    with closed_on_error(database):
        uses_log = database.value("PRAGMA journal_mode") == "wal"
    log = Path(f"{path}-wal")
    if uses_log and not (log.exists() and log.stat().st_size):
        # A read-only connection leaves an empty log and its index behind. One that may write deletes them when it is closed.
        database.close()
        database = _open(path, "rw", BUSY_TIMEOUT_SECONDS)
    return database


def _open(path: Path, mode: str, timeout_seconds: float) -> Database:
    with as_ledger_errors(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=timeout_seconds
        )
    database = Database(path, connection)
    with closed_on_error(database):
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        database.execute("PRAGMA temp_store = FILE")
    return database


@contextmanager
def closed_on_error(database: Database) -> Iterator[None]:
    """Close a connection if anything is raised."""
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
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
