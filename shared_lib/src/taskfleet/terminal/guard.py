"""The boundary between a command and the shell: the only place that prints errors and decides on exit codes."""

import logging
import os
import sys
from collections.abc import Callable

from taskfleet.errors import DeclinedError, TaskfleetError

logger = logging.getLogger(__name__)

#: Ctrl-C.
INTERRUPTED = 130
#: Set by a command that runs another one and prints itself what to do next.
NO_HINT_VARIABLE = "TASKFLEET_NO_HINT"


def guarded(action: Callable[[], int]) -> int:
    """Run an action; turn the user's mistakes into one message and an exit code, without a traceback."""
    try:
        return action()
    except DeclinedError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except TaskfleetError as error:
        logger.debug("The command failed.", exc_info=True)
        print("\n".join([f"error: {error}", *_notes(error)]), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interruption:
        print("\n".join(["Interrupted.", *_notes(interruption)]), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _notes(error: BaseException) -> list[str]:
    """Return what was added to an exception on its way, for people: what was done before it."""
    return getattr(error, "__notes__", [])
