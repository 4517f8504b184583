"""The format of messages: which ones this version of the library writes and reads."""

from taskfleet.errors import QueueError
from taskfleet.version import VERSION

#: The newest format. A message is written in the lowest format that can hold its content, so that workers of the previous version read it.
FORMAT = 1
#: The oldest format that is read: the one before ``FORMAT``, if there is one.
OLDEST_FORMAT = 1


class NewerFormatError(QueueError):
    """A message has a format that only later versions of the library read; it must stay in the queue."""


def check_format(found: int) -> None:
    """Check that messages of a format can be read.

    Raises:
        NewerFormatError: It is newer than this version of the library.
        QueueError: It is no longer read.
    """
    if found > FORMAT:
        raise NewerFormatError(
            f"A message in the queue was written by a newer version of taskfleet (format {found}; taskfleet {VERSION} reads up to "
            f"{FORMAT}). It stays in the queue. Update shared_lib/ in this project."
        )
    if found < OLDEST_FORMAT:
        raise QueueError(
            f"A message in the queue was written by an older version of taskfleet (format {found}; taskfleet {VERSION} reads "
            f"{OLDEST_FORMAT} or later). Finish the job with that version."
        )
