"""How a worker continues the chain of a task that has succeeded; see ``messages.chains``."""

from taskfleet.ledger.attempts import PARTS
from taskfleet.messages.tasks import QueuedTask, overhead_bytes
from taskfleet.tasks import Finished, Outcome

#: What a message has besides its tasks.
HEADER_BYTES = 1000


def successor(task: QueuedTask, finished: Finished, most_message_bytes: int) -> QueuedTask | None:
    """Return the next task of a chain, to be sent in place of one that ended; None if that is left to the ledger.

    The ledger sends it if it is too large for a message, because its data have to be in a file then; and if the task returned calls,
    because it has not succeeded before these have.

    Args:
        task: The task that ended.
        finished: How it ended.
        most_message_bytes: The maximum size of a message.
    """
    result = finished.result
    if not task.chain.tasks or finished.outcome != Outcome.SUCCEEDED or result is None or result.startswith(PARTS):
        return None
    following = task.successor(result)
    most = most_message_bytes - HEADER_BYTES
    following = following.fitting(most)
    return following if overhead_bytes(following) <= most else None
