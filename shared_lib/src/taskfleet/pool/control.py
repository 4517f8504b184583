"""The lease of a job's pool in the ledger: one controller manages the pool at a time."""

from taskfleet.ledger.database import Database
from taskfleet.processes.identity import is_surely_dead

#: A controller that has not renewed its lease for this long is no longer running.
ABSENT_SECONDS = 120.0
#: How often it is renewed, at least, unless a request to the provider takes longer.
RENEWAL_SECONDS = 10.0


def controller(database: Database) -> tuple[str | None, float]:
    """Return the controller, None if there is none, and the time at which it last renewed its lease."""
    name, seen_at = database.row("SELECT controller, seen_at FROM pool") or (None, 0.0)
    return name, seen_at


def running(database: Database, now: float, *, me: str = "") -> str | None:
    """Return the controller that is running, None if there is none, or if it is ``me``."""
    name, seen_at = controller(database)
    if name in (None, me) or now - seen_at >= ABSENT_SECONDS or is_surely_dead(name):
        return None
    return name


def acquire(database: Database, me: str, now: float) -> str | None:
    """Become the controller, and cancel a request to stop the former one; return the other controller if one is running."""
    if database.probe is not None:
        database.probe.begin(RENEWAL_SECONDS)
    with database.transaction():
        if other := running(database, now, me=me):
            return other
        database.execute("UPDATE pool SET controller = ?, seen_at = ?, stop_asked_at = NULL", (me, now))
    return None


def renew(database: Database, me: str, now: float) -> bool:
    """Renew the controller's lease; return False if it has lost the lease, or was asked to stop."""
    if database.probe is not None:
        database.probe.repeat(RENEWAL_SECONDS)
    with database.transaction():
        return bool(
            database.execute(
                "UPDATE pool SET seen_at = ? WHERE controller = ? AND stop_asked_at IS NULL", (now, me)
            ).rowcount
        )


def release(database: Database, me: str) -> None:
    """Release the controller's lease."""
    with database.transaction():
        database.execute("UPDATE pool SET controller = NULL WHERE controller = ?", (me,))


def request_stop(database: Database, now: float) -> bool:
    """Ask the controller to stop; return False if there is none."""
    with database.transaction():
        return bool(
            database.execute(
                "UPDATE pool SET stop_asked_at = ? WHERE controller IS NOT NULL AND seen_at > ?",
                (now, now - ABSENT_SECONDS),
            ).rowcount
        )
