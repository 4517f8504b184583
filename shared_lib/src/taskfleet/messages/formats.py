"""The format of messages: which ones this version of the library writes and reads, and what becomes of the others."""

from typing import Any

from taskfleet.errors import QueueError
from taskfleet.version import VERSION

#: The newest format. A message is written in the lowest format that can hold its content, so that workers of the previous version read it.
FORMAT = 2
#: The format of messages without functions of graph tasks, which only messages of tasks have.
FIRST_FORMAT = 1
#: The oldest format that is read: the one before ``FORMAT``, if there is one.
OLDEST_FORMAT = 1
#: No version of the library will ever use a higher number.
_HIGHEST_FORMAT = 9999
_SHOWN = 80


class ForeignMessageError(QueueError):
    """A message was not written by this library, or is damaged: it is set aside, and never received again."""


class MisdirectedMessageError(QueueError):
    """A message is for another version of the library or another job: it must stay in the queue, unchanged."""


class NewerFormatError(MisdirectedMessageError):
    """A message has a format that only later versions of the library read."""


def check_format(found: Any) -> None:
    """Check that messages of a format can be read.

    Raises:
        NewerFormatError: It is newer than this version of the library.
        MisdirectedMessageError: It is no longer read.
        ValueError: It is not the number of a format.
    """
    if type(found) is not int or not 0 <= found <= _HIGHEST_FORMAT:
        raise ValueError("it has no format number of taskfleet")
    if found > FORMAT:
        raise NewerFormatError(
            f"A message in the queue was written by a newer version of taskfleet (format {found}; taskfleet {VERSION} reads up to "
            f"{FORMAT}). It stays in the queue. Update shared_lib/ in this project."
        )
    if found < OLDEST_FORMAT:
        raise MisdirectedMessageError(
            f"A message in the queue was written by an older version of taskfleet (format {found}; taskfleet {VERSION} reads "
            f"{OLDEST_FORMAT} or later). It stays in the queue. Finish the job with that version."
        )


def foreign(body: str, error: Exception) -> ForeignMessageError:
    """Return the error about a foreign message, with the reason."""
    if isinstance(error, RecursionError):
        reason = "it is nested too deeply"
    elif isinstance(error, KeyError):
        reason = f"it has no {error.args[0]!r}"
    else:
        reason = str(error) or type(error).__name__
    return ForeignMessageError(
        f"The queue has a message that taskfleet did not write, or that is damaged ({reason}): {body[:_SHOWN]!r}"
    )
