"""The control document of a job in a PostgreSQL database: among the tags of the row of its queue."""

from taskfleet.queues.postgresql import PostgresqlTransport


class PostgresqlControl:
    """A control channel, see ``ControlChannel``; the document is deleted with the queue."""

    look_seconds: float = 1.0
    is_part_of_queue: bool = True

    def __init__(self, transport: PostgresqlTransport) -> None:
        self._transport = transport
        self._known = ""

    def read(self) -> str | None:
        """See ``ControlChannel.read``. A text that is known is not sent again."""
        found = self._transport.read_control(self._known)
        if found is None:
            return None
        self._known, text = found
        return text

    def write(self, text: str) -> None:
        """See ``ControlChannel.write``."""
        self._transport.write_control(text)

    def delete(self) -> None:
        """See ``ControlChannel.delete``."""
        self._transport.write_control(None)

    def close(self) -> None:
        """See ``ControlChannel.close``."""
        self._transport.close()
