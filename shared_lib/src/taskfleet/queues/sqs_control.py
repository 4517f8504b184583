"""The control document of a job at SQS: a message on a notice board, which is a queue that every worker reads and none takes from."""

from taskfleet.messages.control import version_of
from taskfleet.queues.control import DocumentTooLargeError
from taskfleet.queues.sqs import BATCH_MESSAGES
from taskfleet.queues.sqs_errors import MissingError
from taskfleet.queues.transport import Outgoing, Transport

#: The suffix of the name of the board.
BOARD = "-board"
#: How long a look waits for messages: SQS asks all of its servers only if it may wait, and a writer hides the board for a moment.
_WAIT_SECONDS = 1.0
#: How long what is replaced stays hidden if the writer dies meanwhile.
_REPLACE_SECONDS = 30.0


class SqsControl:
    """A control channel, see ``ControlChannel``. The board is created for the first document; SQS keeps it for 14 days after each.

    Args:
        board: The queue NAME-board.
        tags: Its tags.
    """

    look_seconds: float = 10.0
    is_part_of_queue: bool = False

    def __init__(self, board: Transport, tags: dict[str, str]) -> None:
        self._board = board
        self._tags = tags
        self._known = ""

    def read(self) -> str | None:
        """See ``ControlChannel.read``. Of several documents, for example of two writers, the one with the highest version counts."""
        try:
            messages = self._board.receive(BATCH_MESSAGES, wait_seconds=_WAIT_SECONDS, lease_seconds=0)
        except MissingError:
            return None
        text = max((one.body for one in messages), key=version_of, default=self._known)
        if text == self._known:
            return None
        self._known = text
        return text

    def write(self, text: str) -> None:
        """See ``ControlChannel.write``. The board looks empty for the moment between the old document and the new one."""
        if len(text.encode()) > self._board.most_message_bytes:
            raise DocumentTooLargeError
        self._board.create(tags=self._tags)
        replaced = self._board.receive(BATCH_MESSAGES, wait_seconds=_WAIT_SECONDS, lease_seconds=_REPLACE_SECONDS)
        self._board.send([Outgoing(text)])
        self._board.acknowledge([one.receipt for one in replaced])

    def delete(self) -> None:
        """See ``ControlChannel.delete``."""
        self._board.delete()

    def close(self) -> None:
        """See ``ControlChannel.close``."""
        self._board.close()
