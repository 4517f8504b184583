"""Functions whose calls become tasks of a queue."""

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from taskfleet import script_import
from taskfleet.code_versions.objects import code_digest
from taskfleet.desipipe.futures import Future
from taskfleet.desipipe.records import TaskState
from taskfleet.errors import UsageError
from taskfleet.graph import current
from taskfleet.graph.arguments import bind


class AppsQueue(Protocol):
    """What an app needs of the queue of its manager; see ``queue.Queue``."""

    def call(self, app: Any, arguments: dict[str, Any], index: int) -> Future:
        """Add the task of a call."""

    def kept(self, name: str, index: int) -> Future | None:
        """Return the task of an earlier call."""


class AppsManager(Protocol):
    """What an app needs of its manager; see ``managers.TaskManager``."""

    @property
    def queue(self) -> AppsQueue:
        """Its queue."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings."""

    @property
    def provider(self) -> dict[str, Any]:
        """The options of its provider."""


class BaseApp:
    """A function whose calls are tasks. Inside a task, a call runs the function itself.

    Args:
        function: The function.
        manager: Runs its tasks.
        skip: Whether calls do nothing and return None.
        name: Do not make tasks, but return those that the app of this name (True: of its own name) has in the queue, whatever its code
            was: the first call returns the first of them, and so on.
        state: With ``name``, return only tasks in this state, or one of these; the other calls become tasks.
        save_attrs: Accepted; the source and the versions of packages are always kept in the queue.
        save_dir: Accepted.
    """

    is_bash = False

    def __init__(
        self,
        function: "Callable[..., Any] | BaseApp",
        manager: AppsManager,
        *,
        skip: bool = False,
        name: str | bool | None = None,
        state: str | Iterable[str] | None = None,
        save_attrs: Any = None,  # noqa: ARG002
        save_dir: Any = None,  # noqa: ARG002
    ) -> None:
        function = function.function if isinstance(function, BaseApp) else function
        if not inspect.isfunction(function):
            raise UsageError(f"An app is made of a function, not of {function!r:.100}.")
        self.function: Callable[..., Any] = function
        self.task_manager = manager
        self.signature = _signature(function)
        self.name: str = function.__name__
        self.skip = skip
        self.kept_name = name if isinstance(name, str) else self.name if name else ""
        self.kept_states = TaskState.ALL if state is None else (state,) if isinstance(state, str) else tuple(state)
        unknown = [one for one in self.kept_states if one not in TaskState.ALL]
        if unknown:
            raise UsageError(
                f"There is no state {', '.join(map(repr, unknown))}; there are {', '.join(TaskState.ALL)}."
            )
        self._calls = 0
        functools.update_wrapper(self, function)

    @functools.cached_property
    def digest(self) -> str:
        """The digest of its code."""
        return code_digest(self.function)

    @property
    def folders(self) -> list[str]:
        """From where the function may import modules."""
        path = inspect.getsourcefile(self.function) or ""
        own = [os.path.dirname(os.path.abspath(path))] if os.path.isfile(path) else []
        return list(dict.fromkeys([*own, os.getcwd()]))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function as a task; return the ``Future`` of its result."""
        if script_import.is_worker():
            return current.call_in_worker(self.function, args, kwargs)
        index, self._calls = self._calls, self._calls + 1
        if self.skip:
            return None
        queue = self.task_manager.queue
        if self.kept_name:
            kept: Future | None = queue.kept(self.kept_name, index)
            if kept is not None and kept.state in self.kept_states:
                return kept
        return queue.call(self, bind(self.name, self.signature, args, kwargs), index)

    def __reduce__(self) -> Any:
        """Pickle the function only."""
        return _same, (self.function,)

    def __repr__(self) -> str:
        """Return the name of the function."""
        return f"{type(self).__name__}({self.name})"


class PythonApp(BaseApp):
    """A function whose calls run in Python; see ``BaseApp``."""


class BashApp(BaseApp):
    """A function that returns a command, which is then run; see ``BaseApp``."""

    is_bash = True


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the parameters of a function; the communicator, which workers provide, may be left out."""
    found = inspect.signature(function)
    return found.replace(
        parameters=[
            one.replace(default=None, kind=one.KEYWORD_ONLY)
            if one.name == "mpicomm" and one.default is one.empty
            else one
            for one in found.parameters.values()
        ]
    )


def _same(function: Any) -> Any:
    return function
