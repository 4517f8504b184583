"""Moves the tasks of a job to another queue."""

from taskfleet.ledger import sending
from taskfleet.ledger.database import Database
from taskfleet.ledger.transitions import changing


def move(database: Database, queue_url: str | None) -> None:
    """Record that the job uses another queue, to which all pending and running tasks have to be sent.

    Args:
        database: The job's ledger.
        queue_url: The queue without secrets; None for the queue embedded in the ledger.
    """
    with changing(database) as change:
        change.put_back()
        change.forget_messages()
        database.execute("UPDATE job SET queue_url = ?", (queue_url,))
        sending.release_held_back(database)
        if queue_url is None:
            change.keep_all_here()
        else:
            change.send_all_again()


def send_again(database: Database) -> int:
    """Mark all running tasks to be sent again, as if their workers had returned them; return their number."""
    with changing(database) as change:
        return change.send_running_again()
