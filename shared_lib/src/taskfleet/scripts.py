"""The functions that the scripts of a project call, ``insert_tasks.py`` and ``run.py``.

They import the command only when they are called, inside the guard: Ctrl-C during the imports ends a script without a traceback.
"""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from taskfleet.terminal.guard import guarded

if TYPE_CHECKING:
    from taskfleet.api.inserting import FilterTasks, Source
    from taskfleet.tasks import Lease


def insert_tasks(
    source: "Source | None" = None, *, filter_tasks: "FilterTasks | None" = None, argv: Sequence[str] | None = None
) -> None:
    """Insert the tasks of a table; a project's ``insert_tasks.py`` calls this function.

    After an error or Ctrl-C, it exits the interpreter with the exit code of the command.

    Args:
        source: Rows to insert instead of TASK_TABLE: mappings with the columns, or ``{"task_id": …, "data": {…}}``.
        filter_tasks: ``filter_tasks(table, output_path)`` gets a pandas DataFrame (of up to 50,000 rows at a time) and returns the rows
            to insert. None for the function of this name in the module of TASK_FUNCTION, if there is one.
        argv: The command-line arguments; None for those of the script.
    """

    def action() -> int:
        from taskfleet.commands.insert_tasks import run

        return run(_words(argv), source=source, filter_tasks=filter_tasks)

    _exit_after(action)


def launch_worker(
    argv: Sequence[str] | None = None,
    *,
    before_fn: "Callable[[Lease], object] | None" = None,
    after_fn: "Callable[[Lease], object] | None" = None,
    stop_fn: Callable[..., bool] | None = None,
) -> None:
    """Run tasks until all are done. The ``run.py`` of a project calls this function.

    It returns when no tasks are left. If the worker was stopped, or after an error, it exits the interpreter with the command's exit code.

    Args:
        argv: The command-line arguments; None for those of the script.
        before_fn: Called with the lease of each task before it runs; see ``Hooks``.
        after_fn: Called with the lease of each task that succeeded; see ``Hooks``.
        stop_fn: Called between tasks; the worker stops when it returns True; see ``Hooks``.
    """

    def action() -> int:
        from taskfleet.commands.launch_worker import run
        from taskfleet.worker.hooks import make_hooks

        return run(_words(argv), make_hooks(before_fn, after_fn, stop_fn))

    _exit_after(action)


def _words(argv: Sequence[str] | None) -> Sequence[str]:
    return sys.argv[1:] if argv is None else argv


def _exit_after(action: Callable[[], int]) -> None:
    """Run a command; exit the interpreter unless it succeeded."""
    if code := guarded(action, is_output_optional=True):
        sys.exit(code)
