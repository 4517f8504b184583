"""Foreign messages in a service queue, which taskfleet did not write or which are damaged: kept in a file, and deleted from the queue.

The file, ``JOB.set-aside.jsonl`` next to the ledger on the machine that received the message, has one JSON object per message: when it was
received, from which queue, why it was set aside, and the message. Anyone who can write to the queue can fill it, so its size is bounded.
"""

import json
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from taskfleet.files import make_private_folder, open_private

logger = logging.getLogger(__name__)

#: Maximum size of the file. Messages beyond that are only counted.
MOST_BYTES = 64 << 20
#: This many messages are reported individually; after that, only the 10th, 100th, and so on.
REPORTED = 3


def set_aside_path(ledger: Path) -> Path:
    """Return the file for foreign messages, next to a job's ledger."""
    return ledger.with_suffix(".set-aside.jsonl")


class SetAside:
    """Keeps foreign messages, and reports them.

    Args:
        path: The file.
        say: Shows messages to the user.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._count = 0

    def keep(self, queue: str, body: str, reason: str) -> None:
        """Keep a message of a queue (``tasks`` or ``events``), which may then be deleted from the queue."""
        self._count += 1
        place = self._write(queue, body, reason)
        logger.info("Set aside a message of the queue of %s (%s): %s", queue, place, reason)
        if self._count <= REPORTED:
            self._say(f"{reason} It is removed from the queue, and {place}.")
        elif str(self._count).strip("0") == "1":
            self._say(f"{self._count:,} messages of the queue were set aside so far; the last one is {place}.")

    def _write(self, queue: str, body: str, reason: str) -> str:
        """Append a message to the file; return where it is."""
        record = {"received_at": datetime.now(UTC).isoformat(timespec="seconds"), "queue": queue, "reason": reason}
        line = json.dumps(record | {"message": body}).encode() + b"\n"
        try:
            make_private_folder(self._path.parent)
            file = open_private(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                if os.fstat(file).st_size + len(line) > MOST_BYTES:
                    return f"not kept, because {self._path} is full"
                os.write(file, line)
            finally:
                os.close(file)
        except OSError as error:
            return f"not kept, because {self._path} cannot be written ({error.strerror})"
        return f"kept in {self._path}"
