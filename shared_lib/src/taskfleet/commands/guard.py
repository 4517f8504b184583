"""What stands between a command and the shell: the only place that prints errors, and the exit codes."""

import os
import sys
from collections.abc import Callable

from taskfleet.errors import DeclinedError, TaskfleetError

#: Ctrl-C.
INTERRUPTED = 130
#: Set by a command that calls another one and says itself what is next.
NO_HINT_VARIABLE = "TASKFLEET_NO_HINT"


def guarded(action: Callable[[], int]) -> int:
    """Run an action; turn the user's mistakes into one message and an exit code, without a traceback."""
    try:
        return action()
    except DeclinedError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except TaskfleetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
