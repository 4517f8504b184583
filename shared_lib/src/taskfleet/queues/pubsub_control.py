"""The control document of a job at Pub/Sub: compressed, in labels of the topic of its tasks."""

import base64
import zlib

from taskfleet.queues.control import DocumentTooLargeError
from taskfleet.queues.pubsub import PubSubTransport
from taskfleet.queues.pubsub_errors import MissingError

_PREFIX = "taskfleet-control-"
#: https://cloud.google.com/pubsub/docs/create-topic#labels: 64 labels of 63 lower case letters, digits, "-" and "_"; some are the user's.
_MOST_LABELS = 48
_MOST_CHARACTERS = 63


class PubSubControl:
    """A control channel, see ``ControlChannel``. An update replaces all labels at once, so no reader sees a part of a document."""

    look_seconds: float = 20.0  # the quota is 6,000 administrative requests a minute
    is_part_of_queue: bool = True

    def __init__(self, transport: PubSubTransport) -> None:
        self._transport = transport
        self._known = ""

    def read(self) -> str | None:
        """See ``ControlChannel.read``."""
        try:
            labels = self._transport.labels()
        except MissingError:
            return None
        packed = "".join(value for name, value in sorted(labels.items()) if name.startswith(_PREFIX))
        if packed == self._known:
            return None
        self._known = packed
        return _unpack(packed) if packed else None

    def write(self, text: str) -> None:
        """See ``ControlChannel.write``."""
        packed = _pack(text)
        if len(packed) > _MOST_LABELS * _MOST_CHARACTERS:
            raise DocumentTooLargeError
        self._replace([packed[start : start + _MOST_CHARACTERS] for start in range(0, len(packed), _MOST_CHARACTERS)])

    def delete(self) -> None:
        """See ``ControlChannel.delete``."""
        self._replace([])

    def close(self) -> None:
        """See ``ControlChannel.close``."""
        self._transport.close()

    def _replace(self, parts: list[str]) -> None:
        others = {name: value for name, value in self._transport.labels().items() if not name.startswith(_PREFIX)}
        self._transport.set_labels(others | {f"{_PREFIX}{number:02}": part for number, part in enumerate(parts)})


def _pack(text: str) -> str:
    return base64.b32encode(zlib.compress(text.encode(), 9)).decode().rstrip("=").lower()


def _unpack(packed: str) -> str:
    """Return the text in labels; one that is no document if they were changed, which zlib's checksum shows."""
    try:
        return zlib.decompress(base64.b32decode(packed.upper() + "=" * (-len(packed) % 8))).decode("utf-8", "replace")
    except (ValueError, zlib.error):
        return packed
