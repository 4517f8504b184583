"""The flow that calls are made in."""

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

from taskfleet import script_import
from taskfleet.errors import UsageError
from taskfleet.graph import script_end
from taskfleet.graph.futures import Future, Futures
from taskfleet.script_import import Absent


class CurrentFlow(Protocol):
    """What an app needs of the flow that it is called in; see ``flow.Flow``."""

    @property
    def project(self) -> Path:
        """The project's folder."""

    def call(self, app: Any, args: Any, kwargs: Any) -> Future:
        """Make a call of an app."""

    def map(self, app: Any, args: Any, kwargs: Any) -> Futures:
        """Make the calls of a map."""


_flow: ContextVar[CurrentFlow | None] = ContextVar("taskfleet_flow", default=None)
#: The flows that are entered, in whatever thread.
_open: list[CurrentFlow] = []


def flow() -> CurrentFlow:
    """Return the current flow. A thread that has entered none takes the one that is open.

    Raises:
        UsageError: There is none.
    """
    found = _flow.get()
    if found is not None:
        return found
    script_end.show_errors()
    if len(_open) > 1:
        raise UsageError("There are several flows, and this thread has entered none of them: enter one in the thread.")
    if not _open:
        raise UsageError('Call apps inside a flow: with flow("NAME"): … (NAME is the job that gets the tasks).')
    return _open[0]


def enter(new: CurrentFlow) -> CurrentFlow | None:
    """Make a flow the current one; return the one before."""
    before = _flow.get()
    _flow.set(new)
    _open.append(new)
    return before


def leave(flow: CurrentFlow, before: CurrentFlow | None) -> None:
    """Make the flow before this one the current one again."""
    _flow.set(before)
    _open.remove(flow)


def call_in_worker(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Return what a call of an app returns in a worker: inside a task the function's result, and while a script is imported nothing."""
    if not script_import.is_importing():
        return function(*args, **kwargs)
    return Absent()


def map_in_worker(name: str) -> Any:
    """Return what ``App.map`` returns in a worker that imports a script."""
    if not script_import.is_importing():
        raise UsageError(f"{name}.map was called inside a task. Call the function in a loop, or map outside of tasks.")
    return Absent()
