"""How a script with flows ends: errors and Ctrl-C without the library's own frames, and what is left to do."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from taskfleet import script_import
from taskfleet.errors import TaskfleetError
from taskfleet.graph import script_run
from taskfleet.ledger import counters, leasing, managers
from taskfleet.ledger.database import open_ledger
from taskfleet.settings import Configuration
from taskfleet.tasks import State
from taskfleet.text import counted

_before: Callable[..., Any] | None = None
_has_failed = False


def show_errors() -> None:
    """From now on, show errors that the user can correct by their message and the lines of the script that led to them.

    Nothing changes in a worker or where the main program is no file, as in a notebook.
    """
    global _before
    is_script = hasattr(sys.modules["__main__"], "__file__") and not script_import.is_worker()
    if _before is None and is_script:
        _before = sys.excepthook
        sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    global _has_failed
    if issubclass(kind, KeyboardInterrupt) and script_import.script_name():
        print("\nInterrupted.", file=sys.stderr)
        return
    _has_failed = not issubclass(kind, KeyboardInterrupt)
    if not isinstance(error, TaskfleetError):
        if _before is not None:
            _before(kind, error, trace)
        return
    print(f"{script_run.lines_of_script(trace)}Error: {error}", file=sys.stderr)


def say_left(configuration: Configuration, command: Callable[[str], str]) -> None:
    """Say how many tasks of a job are left when the script ends, unless a worker runs them or an error was shown.

    Args:
        configuration: The job's settings.
        command: Returns a command about the job as the user would type it.
    """
    if (
        _has_failed
        or script_run.is_command
        or not script_import.script_name()
        or not configuration.ledger_path.exists()
    ):
        return
    try:
        database = open_ledger(configuration.ledger_path, job_id=configuration.settings.job_id, read_only=True)
        try:
            counts = counters.by_state(database)
            attended = leasing.attended(database, time.time())
            if attended and not managers.unattended(database, attended):
                return
        finally:
            database.close()
    except TaskfleetError:
        return
    left = sum(counts.get(state, 0) for state in (State.WAITING, State.PENDING, State.RUNNING))
    if left:
        print(
            f"Job {configuration.settings.job_id!r}: {counted(left, 'task')} left. They run with {command('launch_worker')}, or when "
            "this script is run again and waits for their results.",
            file=sys.stderr,
        )
