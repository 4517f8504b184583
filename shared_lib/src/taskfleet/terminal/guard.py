"""The boundary between a command and the shell: the only place that prints errors and decides on exit codes."""

import errno
import logging
import os
import sys
from collections.abc import Callable

from taskfleet.errors import DeclinedError, TaskfleetError
from taskfleet.redaction import redact
from taskfleet.terminal.streams import prepare_streams
from taskfleet.text import harmless

logger = logging.getLogger(__name__)

#: The errors of writing to a closed pipe, a full disk or a closed terminal.
_OF_OUTPUT = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG)

#: Ctrl-C.
INTERRUPTED = 130
#: Set for a command whose caller prints the next steps itself.
NO_HINT_VARIABLE = "TASKFLEET_NO_HINT"


def guarded(action: Callable[[], int], *, is_output_optional: bool) -> int:
    """Run an action; turn the user's mistakes into one message and an exit code, without a traceback.

    Args:
        action: Does the work; returns the exit code.
        is_output_optional: Whether the work is done also if standard output cannot be written; otherwise the action ends there, with 0
            if the reader has gone and with 1 for another reason.
    """
    prepare_streams(is_output_optional=is_output_optional)
    try:
        code = action()
        sys.stdout.flush()
    except DeclinedError as error:
        print(harmless(str(error)), file=sys.stderr)
        return error.exit_code
    except TaskfleetError as error:
        logger.debug("The command failed.", exc_info=True)
        print(harmless(redact("\n".join([f"error: {error}", *_notes(error)]))), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interruption:
        print(harmless("\n".join(["Interrupted.", *_notes(interruption)])), file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if is_output_optional or error.filename is not None or error.errno not in _OF_OUTPUT:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what the interpreter still flushes at its end
        if error.errno == errno.EPIPE:  # the reader has seen enough
            return 0
        print(f"error: standard output cannot be written: {error.strerror}.", file=sys.stderr)
        return TaskfleetError.exit_code
    return code


def _notes(error: BaseException) -> list[str]:
    """Return the notes of an exception: what was done before it."""
    return getattr(error, "__notes__", [])
