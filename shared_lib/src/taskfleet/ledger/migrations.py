"""The schema of a ledger: its migrations, which versions may write it, and how an older one is read without changing it.

A file has two numbers: ``schema`` (SQLite's ``user_version``), the number of migrations it has had, and ``job.oldest_writer``, the lowest
schema whose code may still write it. An additive migration adds tables, indexes, and columns with a constant default, costs the same for
any number of tasks and leaves ``oldest_writer``: older code names the columns that it writes and ignores the others. A breaking migration
changes what older code relies on and raises ``oldest_writer``.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from taskfleet.errors import LedgerError
from taskfleet.version import VERSION

#: Marks the file as ours (the SQLite header's application id): "tflt".
APPLICATION_ID = 0x74666C74
#: A file of an older schema has to be migrated before it can be read.
OLDEST_READABLE = 3
#: From this schema on, ``job`` has ``oldest_writer`` and ``version``.
TWO_NUMBERS_SINCE = 6
#: From this schema on, there is the table ``control`` with one row.
CONTROL_SINCE = 8

_SENTENCES = {
    "all tasks are done": "done",
    "no worker was heard in time": "late",
    "its worker fell silent": "silent",
    "not in the ledger": "unknown",
    "never seen to start": "never_started",
    "gone": "gone",
    "stopped by the user": "stopped",
    "torn down by the user": "torn_down",
    "terminated by the user": "terminated",
}
_PREFIXES = {
    "preempted": "preempted",
    "no capacity": "stock_out",
    "quota": "quota",
    "throttled": "throttled",
    "price": "price",
    "refused": "invalid",
}
#: SQL for the code and the detail of the sentence that schema 3 has as a machine's ``end_reason``.
_CODE = " ".join(
    [
        "CASE WHEN end_reason IS NULL THEN NULL",
        *(f"WHEN end_reason = '{sentence}' THEN '{code}'" for sentence, code in _SENTENCES.items()),
        *(f"WHEN end_reason GLOB '{prefix}: *' THEN '{code}'" for prefix, code in _PREFIXES.items()),
        "WHEN instance_id IS NULL AND ended_at = ordered_at THEN 'launch_error'",  # an exception from the provider
        "WHEN ending_since IS NOT NULL THEN 'gave_up'",  # the reason the pool stopped
        "ELSE 'ended' END",  # the provider's own words
    ]
)
_DETAIL = " ".join(
    [
        "CASE WHEN end_reason IS NULL THEN ''",
        *(f"WHEN end_reason = '{sentence}' THEN ''" for sentence in _SENTENCES),
        *(f"WHEN end_reason GLOB '{prefix}: *' THEN substr(end_reason, {len(prefix) + 3})" for prefix in _PREFIXES),
        "ELSE end_reason END",
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema. Its number is its place in ``MIGRATIONS``, counted from 1."""

    name: str
    """Of the file in ``sql/`` with its statements."""
    is_breaking: bool = False
    """Whether code that knows only earlier schemas must not write the file afterwards."""
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By table and column: the column's new value as an SQL expression over the old row. Written after the statements, and used to read
    a file that has not had this migration."""

    def script(self) -> str:
        """Return its SQL statements."""
        return (resources.files(__package__) / "sql" / self.name).read_text(encoding="utf-8")


MIGRATIONS: tuple[Migration, ...] = (
    Migration(name="001_ledger.sql"),
    Migration(name="002_queues.sql", is_breaking=True),  # older code would lease tasks that were sent to a service
    Migration(name="003_machines.sql"),
    Migration(  # older code would write sentences where there are codes
        name="004_machines_codes.sql",
        is_breaking=True,
        translations={"machine": {"end_reason": _CODE, "detail": _DETAIL, "running_at": "started_at"}},
    ),
    Migration(name="005_small_insertions.sql", is_breaking=True),  # older code deletes tasks that lie in no segment
    Migration(name="006_versions.sql"),
    Migration(name="007_graph.sql", is_breaking=True),  # older code never releases a task that waits for others
    Migration(name="008_control.sql"),
    Migration(name="009_managers.sql", is_breaking=True),  # older code runs tasks of any manager
    Migration(name="010_chains.sql"),
    Migration(name="011_pools.sql"),
    Migration(name="012_environments.sql"),
    Migration(name="013_nodes.sql"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The two numbers of a file."""

    number: int
    """How many migrations it has had; 0 for a new file."""
    oldest_writer: int
    """The lowest schema whose code may write it."""
    version: str = ""
    """The library version that made or migrated it; empty if unknown."""

    @property
    def is_old(self) -> bool:
        """Whether there are migrations that it has not had."""
        return self.number < newest()

    @property
    def must_be_migrated_alone(self) -> bool:
        """Whether a migration that it has not had is a breaking one."""
        return any(migration.is_breaking for migration in MIGRATIONS[self.number :])


def newest() -> int:
    """Return the schema that this version of the library writes."""
    return len(MIGRATIONS)


def oldest_writer(schema: int) -> int:
    """Return the lowest schema whose code may write a file of a schema."""
    breaking = [number for number, one in enumerate(MIGRATIONS[:schema], start=1) if one.is_breaking]
    return max(breaking, default=min(schema, 1))


def read_schema(path: Path, connection: sqlite3.Connection) -> Schema:
    """Return the two numbers of a file.

    Raises:
        LedgerError: It is not a ledger, or this version of the library is too old for it.
    """
    number, application, has_tables = (
        connection.execute(  # one statement, so of one instant: the file may be in the making
            "SELECT user_version, application_id, EXISTS (SELECT 1 FROM sqlite_schema) FROM pragma_user_version, pragma_application_id"
        ).fetchone()
    )
    if has_tables and (application != APPLICATION_ID or number < 0):
        raise LedgerError(f"{path} is an SQLite file, but not a ledger. Choose another LEDGER_PATH or JOB_ID.")
    if number < TWO_NUMBERS_SINCE:
        return Schema(number=number, oldest_writer=oldest_writer(number))
    oldest, version = connection.execute("SELECT oldest_writer, version FROM job").fetchone() or (number, "")
    if oldest > newest():
        raise LedgerError(
            f"{path} belongs to taskfleet {version} (ledger schema {number}, which code for schema {oldest} or later may use). This is "
            f"taskfleet {VERSION} (schema {newest()}). Update shared_lib/ in this project, or finish the job with taskfleet {version}."
        )
    return Schema(number=number, oldest_writer=oldest, version=version)


def migrate(connection: sqlite3.Connection, schema: int) -> None:
    """Bring a file of a schema up to date, inside an open transaction."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for migration in MIGRATIONS[schema:]:
        _run(connection, migration)
    connection.execute(f"PRAGMA user_version = {newest()}")


def note_version(connection: sqlite3.Connection) -> None:
    """Note in the job's row who may write the file, and that this version of the library made or migrated it."""
    if newest() >= TWO_NUMBERS_SINCE:
        connection.execute("UPDATE job SET oldest_writer = ?, version = ?", (oldest_writer(newest()), VERSION))


def show_as_newest(path: Path, connection: sqlite3.Connection, schema: int) -> None:
    """Make the tables of an older file look, to this connection, as if it had been migrated; the file is not changed.

    Temporary views hide the tables that differ: they have the columns that were added later, with their defaults.

    Raises:
        LedgerError: The file is too old for this.
    """
    if schema < OLDEST_READABLE:
        raise LedgerError(
            f"{path} has ledger schema {schema}. taskfleet {VERSION} reads schema {OLDEST_READABLE} or later without changing the "
            "file. insert_tasks, launch_worker or monitor brings it up to date."
        )
    translations: dict[str, dict[str, str]] = {}
    for migration in MIGRATIONS[schema:]:
        for table, columns in migration.translations.items():
            translations.setdefault(table, {}).update(columns)
    for table, defaults in _newest_tables().items():
        there = _columns(connection, table)
        if there.keys() >= defaults.keys() and table not in translations:
            continue
        known = {name: name for name in there} | translations.get(table, {})
        values = ", ".join(f"{known.get(name, default)} AS {name}" for name, default in defaults.items())
        source = f"FROM main.{table}" if there else "WHERE FALSE"
        connection.execute(f"CREATE TEMP VIEW {table} AS SELECT {values} {source}")


def missing_parts(connection: sqlite3.Connection, schema: int) -> list[str]:
    """Return the tables, indexes and columns that a file of a schema should have and does not."""
    with closing(_model(schema)) as model:
        parts = (
            "SELECT type, name FROM main.sqlite_schema WHERE type IN ('table', 'index') AND name NOT LIKE 'sqlite_%'"
        )
        expected, found = model.execute(parts).fetchall(), set(connection.execute(parts))
        missing = [f"{kind} {name}" for kind, name in expected if (kind, name) not in found]
        for _, table in (part for part in expected if part[0] == "table" and part in found):
            there = _columns(connection, table)
            missing += [f"column {table}.{column}" for column in _columns(model, table) if column not in there]
    return missing


def _model(schema: int) -> sqlite3.Connection:
    """Return an empty database in memory that has had the migrations of a schema."""
    model = sqlite3.connect(":memory:", isolation_level=None)
    for migration in MIGRATIONS[:schema]:
        _run(model, migration)
    return model


def _newest_tables() -> dict[str, dict[str, str]]:
    """Return the tables of the newest schema, with their columns and the columns' defaults."""
    with closing(_model(newest())) as model:
        names = model.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return {name: _columns(model, name) for (name,) in names.fetchall()}


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table and their defaults, as SQL; nothing if there is no such table."""
    rows = connection.execute("SELECT name, coalesce(dflt_value, 'NULL') FROM pragma_table_info(?, 'main')", (table,))
    return dict(rows.fetchall())


def _run(connection: sqlite3.Connection, migration: Migration) -> None:
    """Run a migration inside the open transaction (``executescript`` would commit it)."""
    statement = ""
    for line in migration.script().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    for table, columns in migration.translations.items():
        changes = ", ".join(f"{column} = {expression}" for column, expression in columns.items())
        connection.execute(f"UPDATE {table} SET {changes}")
