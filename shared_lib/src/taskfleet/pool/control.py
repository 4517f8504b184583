"""Who looks after a job's pool: one controller at a time, as the ledger remembers it."""

from taskfleet.ledger.database import Database
from taskfleet.processes.identity import is_surely_dead

#: A controller that has said nothing for so long is not there any more.
ABSENT_SECONDS = 120.0


def controller(database: Database) -> tuple[str | None, float]:
    """Give who looks after the pool, and when it last said so."""
    name, seen_at = database.row("SELECT controller, seen_at FROM pool") or (None, 0.0)
    return name, seen_at


def take_control(database: Database, me: str, now: float) -> str | None:
    """Become the one who looks after the pool, and take back what was asked of the former one; give who it is if somebody is at it."""
    with database.transaction():
        other, seen_at = controller(database)
        if other is not None and other != me and now - seen_at < ABSENT_SECONDS and not is_surely_dead(other):
            return other
        database.execute("UPDATE pool SET controller = ?, seen_at = ?, stop_asked_at = NULL", (me, now))
    return None


def stay_in_control(database: Database, me: str, now: float) -> bool:
    """Say that the controller is there; False if it is no longer the one, or was asked to stop."""
    with database.transaction():
        return bool(
            database.execute(
                "UPDATE pool SET seen_at = ? WHERE controller = ? AND stop_asked_at IS NULL", (now, me)
            ).rowcount
        )


def give_control_up(database: Database, me: str) -> None:
    """Look after the pool no longer."""
    with database.transaction():
        database.execute("UPDATE pool SET controller = NULL WHERE controller = ?", (me,))


def ask_to_stop(database: Database, now: float) -> bool:
    """Have the controller end; False if there is none."""
    with database.transaction():
        return bool(
            database.execute(
                "UPDATE pool SET stop_asked_at = ? WHERE controller IS NOT NULL AND seen_at > ?",
                (now, now - ABSENT_SECONDS),
            ).rowcount
        )
