"""What workers have to know while they work: whether the job is paused, and which of their tasks were cancelled.

The version is raised with each change, so a worker that looks often reads one number. ``transitions`` writes the table ``kill``.
"""

from taskfleet.ledger.database import Database
from taskfleet.tasks import AttemptKey, State


def version(database: Database) -> int:
    """Return the version of the control document."""
    number: int = database.value("SELECT version FROM control")
    return number


def is_paused(database: Database) -> bool:
    """Return whether the job is paused: no task can be leased."""
    return bool(database.value("SELECT coalesce(json_extract(document, '$.paused'), 0) FROM control"))


def set_paused(database: Database, paused: bool) -> bool:
    """Pause or resume the job; return whether that changed anything."""
    with database.transaction(durable=True):
        if is_paused(database) is paused:
            return False
        database.execute(
            "UPDATE control SET version = version + 1, document = json_set(document, '$.paused', json(?))",
            ("true" if paused else "false",),
        )
    return True


def cancelled_of(database: Database, worker_id: int) -> list[AttemptKey]:
    """Return the attempts of a worker that it has to kill."""
    return database.rows(
        f"SELECT seq, attempt FROM kill JOIN state USING (seq) WHERE state = {State.RUNNING} AND worker_id = ?",
        (worker_id,),
    )


def count_running(database: Database) -> int:
    """Return the number of running tasks that were cancelled."""
    n: int = database.value(f"SELECT count(*) FROM kill JOIN state USING (seq) WHERE state = {State.RUNNING}")
    return n


def cancelled(database: Database) -> list[int]:
    """Return the cancelled tasks that a worker may still run, in order."""
    return [seq for (seq,) in database.rows("SELECT seq FROM kill ORDER BY seq")]
