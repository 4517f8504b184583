"""Having a job's tasks travel by another queue than before."""

from taskfleet.ledger import counters
from taskfleet.ledger.database import Database
from taskfleet.tasks import State


def move(database: Database, queue_url: str | None) -> None:
    """Note that the tasks travel by another queue: all that are pending or running are to be sent there, and none is there yet.

    Args:
        database: The job's ledger.
        queue_url: As it may be kept; None for the queue embedded in the ledger.
    """
    with database.transaction():
        take_back(database)
        database.execute("UPDATE job SET queue_url = ?", (queue_url,))
        database.execute("DELETE FROM unsent")
        if queue_url is not None:
            database.execute("UPDATE segment SET sent_seq = 0")
            database.execute("INSERT INTO unsent SELECT seq FROM state WHERE state = ?", (int(State.PENDING),))
            return
        database.execute(  # fresh tasks have no state, and a segment's cursor may pass over none that has one
            "INSERT INTO state (seq, state) SELECT task.seq, ? FROM segment JOIN task ON task.seq BETWEEN next_seq AND last_seq "
            "LEFT JOIN state ON state.seq = task.seq WHERE state.seq IS NULL",
            (int(State.PENDING),),
        )
        database.execute("UPDATE segment SET next_seq = last_seq + 1")


def send_again(database: Database) -> int:
    """Have all running tasks sent again, as if their workers had given them back; return how many."""
    with database.transaction():
        running = database.rows("SELECT seq FROM state WHERE state = ?", (int(State.RUNNING),))
        database.execute_many("INSERT OR IGNORE INTO unsent VALUES (?)", running)
        return take_back(database)


def take_back(database: Database) -> int:
    """Make running tasks pending, inside a transaction; return how many."""
    n = database.execute(
        "UPDATE state SET state = ?, worker_id = NULL, available_at = 0 WHERE state = ?",
        (int(State.PENDING), int(State.RUNNING)),
    ).rowcount
    counters.add(database, State.RUNNING, 0, -n)
    counters.add(database, State.PENDING, 0, n)
    return n
