"""Having a job's tasks travel by another queue than before."""

from taskfleet.ledger.database import Database
from taskfleet.ledger.transitions import changing


def move(database: Database, queue_url: str | None) -> None:
    """Record that the tasks travel by another queue: all that are pending or running are to be sent there, and none is there yet.

    Args:
        database: The job's ledger.
        queue_url: As it may be kept; None for the queue embedded in the ledger.
    """
    with changing(database) as change:
        change.put_back()
        database.execute("UPDATE job SET queue_url = ?", (queue_url,))
        if queue_url is None:
            change.keep_all_here()
        else:
            change.send_all_again()


def send_again(database: Database) -> int:
    """Have all running tasks sent again, as if their workers had given them back; return how many."""
    with changing(database) as change:
        return change.send_running_again()
