"""Opening a ledger: making it, checking whose it is, migrating it."""

import logging
import os
import sqlite3
import time
import tomllib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from taskfleet.errors import LedgerError
from taskfleet.files import make_private_folder, open_private
from taskfleet.invocation import poe
from taskfleet.ledger import migrations
from taskfleet.ledger.connection import Database, as_json, closed_on_error, connect, connect_to_read
from taskfleet.ledger.migrations import Schema
from taskfleet.ledger.shared_files import is_shared
from taskfleet.ledger.sqlite_errors import as_ledger_errors, is_busy
from taskfleet.processes.identity import is_surely_dead
from taskfleet.version import VERSION

__all__ = ["Database", "as_json", "create", "open_ledger", "project_name"]

logger = logging.getLogger(__name__)

#: A controller whose last heartbeat is older than this is not running.
CONTROLLER_SECONDS = 120.0


def create(path: Path, *, job_id: str, project: Path, now: float, shared: bool | None = None) -> Database:
    """Open the job's ledger to write it; make the file and its folder if they do not exist.

    Several processes may do it at once.

    Args:
        path: The file.
        job_id: The job it is for.
        project: The project's folder; projects are distinguished by their names.
        now: Seconds since the epoch.
        shared: Whether several hosts will use a new file; None to look at the file system. A file keeps what it was made for.

    Raises:
        LedgerError: The file is not a ledger, belongs to another job or project, or cannot be created or migrated.
    """
    try:
        make_private_folder(path.parent)
    except OSError as error:
        raise LedgerError(f"The folder {path.parent} for the ledger cannot be created: {error.strerror}.") from error
    database = connect(path, shared=is_shared(path.parent) if shared is None else shared, create=True)
    with closed_on_error(database):
        if database.schema().number == 0:
            with database.transaction(), as_ledger_errors(path):
                if database.schema().number == 0:  # no other process was faster
                    migrations.migrate(database._connection, 0)
                    database.execute(
                        "INSERT INTO job (job_id, project, created_at) VALUES (?, ?, ?)",
                        (job_id, project_name(project), now),
                    )
                    migrations.note_version(database._connection)
        _check_job(database, job_id, project)
        return _migrated(database)


def open_ledger(path: Path, *, job_id: str, project: Path | None = None, read_only: bool = False) -> Database:
    """Open the ledger of a job that has one.

    To write it, an older one is migrated. Reading never changes the file: an older one is shown as if it had been migrated.

    Raises:
        LedgerError: There is no ledger, it belongs to another job or project, or it cannot be read or migrated.
    """
    if not path.exists():
        raise LedgerError(
            f"Job {job_id!r} has no ledger yet: {path} does not exist. Insert tasks first: {poe('insert_tasks')}"
        )
    database = connect_to_read(path) if read_only else connect(path)
    with closed_on_error(database):
        schema = database.schema()
        if schema.number == 0:
            raise LedgerError(
                f"{path} is empty: no tasks were ever inserted. Insert tasks first: {poe('insert_tasks')}"
            )
        _check_job(database, job_id, project)
        if not read_only:
            return _migrated(database)
        if schema.is_old:
            with as_ledger_errors(path):
                migrations.show_as_newest(path, database._connection, schema.number)
            logger.warning(
                "%s has ledger schema %d and is read as it is. The next insert_tasks, launch_worker or monitor brings it up to date.",
                path,
                schema.number,
            )
        database.forbid_writing()
    return database


def _migrated(database: Database) -> Database:
    """Bring a ledger that is open for writing up to date; return it, or a new connection to it.

    Raises:
        LedgerError: A breaking migration is due, and another process uses the ledger.
    """
    schema = database.schema()
    if not schema.is_old:
        return database
    if not schema.must_be_migrated_alone:
        with database.transaction():
            _migrate(database)
        return database
    path, users = database.path, _users(database)
    is_shared_by_hosts = database.witness is not None
    database.close()
    if users and is_shared_by_hosts:  # where SQLite cannot tell whether another host has it open
        raise _in_use(path, schema, users)
    _migrate_alone(path, schema, users)
    return connect(path)


def _migrate_alone(path: Path, schema: Schema, users: Sequence[str]) -> None:
    """Migrate a ledger that no other process may have open meanwhile, after a copy of it was made."""
    copy = path.with_suffix(f".before-{VERSION}{path.suffix}")
    try:
        with closing(connect(path, exclusive=True)) as database:
            database.execute("BEGIN EXCLUSIVE")  # and keep the lock
            database.execute("COMMIT")
            if not database.schema().is_old:  # another process was faster
                return
            logger.info("%s: copying the ledger before its migration", path)
            _copy(database, copy)
            with database.transaction():
                _migrate(database)
    except LedgerError as error:
        if is_busy(error):
            raise _in_use(path, schema, users) from error
        raise
    logger.warning("%s: a copy of the ledger as it was before its migration is %s.", path, copy.name)


def _copy(database: Database, copy: Path) -> None:
    """Write a copy of a ledger, completely or not at all."""
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    os.close(open_private(part, os.O_WRONLY | os.O_CREAT))  # SQLite fills an empty file
    database.execute("VACUUM INTO ?", (str(part),))
    if database.witness is None:
        with as_ledger_errors(part), closing(sqlite3.connect(part)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # which VACUUM does not keep
    part.replace(copy)


def _migrate(database: Database) -> None:
    """Run, in the open transaction, the migrations that the ledger has not had."""
    schema = database.schema()
    if schema.is_old:  # no other process was faster
        with as_ledger_errors(database.path):
            migrations.migrate(database._connection, schema.number)
            migrations.note_version(database._connection)
        logger.info("%s: migrated from ledger schema %d to %d", database.path, schema.number, migrations.newest())


def _users(database: Database) -> list[str]:
    """Return the processes that the ledger knows to use it."""
    now = time.time()
    workers = database.rows(
        "SELECT hostname, pid, process FROM worker WHERE ended_at IS NULL AND lease_until > ?", (now,)
    )
    users = [f"worker {pid} on {hostname}" for hostname, pid, process in workers if not is_surely_dead(process)]
    if database.schema().number >= 3:
        controllers = database.rows("SELECT controller FROM pool WHERE seen_at > ?", (now - CONTROLLER_SECONDS,))
        users += ["the pool's controller" for (process,) in controllers if process and not is_surely_dead(process)]
    return users


def _in_use(path: Path, schema: Schema, users: Sequence[str]) -> LedgerError:
    return LedgerError(
        f"{path} (ledger schema {schema.number}) has to be migrated for taskfleet {VERSION} (schema {migrations.newest()}), and "
        f"{', '.join(users) or 'another process'} uses it with an earlier version. Let it finish or stop it, and run the command again. "
        "Nothing was changed."
    )


def project_name(project: Path) -> str:
    """Return the name by which a project is known: that of its pyproject.toml, else of its folder."""
    try:
        text = (project / "pyproject.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["project"]["name"])
    except (OSError, ValueError, KeyError):
        return project.name


def _check_job(database: Database, job_id: str, project: Path | None) -> None:
    found, owner = database.row("SELECT job_id, project FROM job") or ("", "")
    if found != job_id:
        raise LedgerError(
            f"{database.path} is the ledger of job {found!r}, not of {job_id!r}. Change JOB_ID or LEDGER_PATH."
        )
    if project is not None and owner != project_name(project):
        raise LedgerError(
            f"{database.path} is the ledger of a job of another project: {owner!r}, not {project_name(project)!r}. Change JOB_ID or "
            "LEDGER_PATH; if the project was renamed, its jobs can be continued only under the old name."
        )
