"""Functions that can be called as tasks."""

import functools
import inspect
import itertools
import sys
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload
from weakref import WeakValueDictionary

from taskfleet import script_import
from taskfleet.errors import ArgumentsError, UsageError
from taskfleet.functions import INJECTED
from taskfleet.graph import by_value, current, script_end
from taskfleet.graph.binding import Binder
from taskfleet.graph.futures import Futures
from taskfleet.graph.parts import Part
from taskfleet.processes import lifeline

P = ParamSpec("P")
R = TypeVar("R")


#: As many connections can a lifeline have.
MOST_PROCESSES = lifeline.MOST

_numbers = itertools.count()
_apps: "WeakValueDictionary[int, App[Any, Any]]" = WeakValueDictionary()


class App(Generic[P, R]):
    """A function whose calls are tasks; see ``app``.

    Inside a task, a call runs the function itself, as without ``app``.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        bash: bool = False,
        pickle: bool = False,
        version: str | None = None,
        manager: str = "",
        mpi: int | None = None,
    ) -> None:
        self.function = function
        self.is_bash = bash
        self.may_pickle = pickle
        self.version = version
        self.manager = manager
        self.mpi = mpi
        self.signature = _signature(function)
        self.binder = Binder(self.signature)
        self._name = ""
        self.is_by_value = False
        """Whether workers cannot import it, so that it is stored; known once ``name`` is."""
        functools.update_wrapper(self, function)
        _apps[next(_numbers)] = self

    @property
    def name(self) -> str:
        """How workers import it: ``module:function``; for functions that they cannot import see ``by_value``.

        Raises:
            UsageError: They can neither import it nor have it by value.
        """
        if not self._name:
            module = _module_of(self.function)
            self.is_by_value = not _is_importable(self.function, module, self)
            if self.is_by_value:
                self._name = by_value.name_of(self.function, module, self.version)
            else:
                self._name = f"{module}:{self.function.__qualname__}"
        return self._name

    def forget_values(self) -> None:
        """Look again at the values that the function uses, if it is one by value."""
        if self.is_by_value:
            self._name = ""

    @property
    def full_name(self) -> str:
        """How the ledger names a function that workers import; errors as for ``name``."""
        if self.name and self.is_by_value:
            raise UsageError(
                f"{self.name} cannot be called with .future inside a task. Define it at the top level of a module of the project."
            )
        return f"{'bash:' * self.is_bash}{'pickle:' * self.may_pickle}{self.name}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function as a task; return the ``Future`` of its result."""
        if script_import.is_worker():
            return current.call_in_worker(self.function, args, kwargs)
        return current.flow().call(self, args, kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function as another task, also inside a task.

        There, the call can only be returned, alone or in lists and other values, or be an argument of another one. The task is replaced
        by the calls that it returns: it has succeeded when they have, and its result has theirs in their places.
        """
        if script_import.is_worker() and not script_import.is_importing():
            return Part(self, args, kwargs)
        return self(*args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Futures:
        """Call the function once for each set of arguments; return the ``Futures`` of the results.

        Args:
            *args: For each parameter, in their order, its values: a range, a list, an array, the ``Futures`` of another map. All have the
                same length. A text, a number, a dict or a single ``Future`` is the same for all calls; write ``constant([1, 2])`` for a
                list that is. A single table (a DataFrame, a pyarrow Table) has all parameters as its columns.
            **kwargs: The same by the names of the parameters.

        Raises:
            UsageError: The lengths differ, or there is nothing to map over.
        """
        if script_import.is_worker():
            absent: Futures = current.map_in_worker(self.function.__qualname__)
            return absent
        return current.flow().map(self, args, kwargs)

    def __reduce__(self) -> Any:
        """Pickle what made it, for a function by value that calls it."""
        return _restored, (self.function, self.is_bash, self.may_pickle, self.version, self.manager, self.mpi)

    def __repr__(self) -> str:
        """Return the name of the function."""
        return f"app({self.function.__module__}.{self.function.__qualname__})"


@overload
def app(
    function: Callable[P, R],
    /,
    *,
    bash: bool = False,
    pickle: bool = False,
    version: str | None = None,
    manager: str = "",
    mpi: int | None = None,
) -> App[P, R]: ...


@overload
def app(
    *, bash: bool = False, pickle: bool = False, version: str | None = None, manager: str = "", mpi: int | None = None
) -> Callable[[Callable[P, R]], App[P, R]]: ...


def app(
    function: Any = None,
    /,
    *,
    bash: bool = False,
    pickle: bool = False,
    version: str | None = None,
    manager: str = "",
    mpi: int | None = None,
) -> Any:
    """Make a function callable as a task. It can also be used as a decorator, with or without arguments.

    Args:
        function: The function. Workers import it if it is at the top level of a module of the project; otherwise it is stored as a pickle,
            which needs cloudpickle.
        bash: Whether the function returns a command, which the worker runs: a list of arguments, or text for ``bash -euo pipefail -c``.
            The result of the task is None; a command that ends with another code than 0 fails.
        pickle: Whether arguments and results of types that cannot be passed otherwise are pickled, which needs cloudpickle. Both
            the function that returns such a value and those that get it declare it.
        version: Replaces the detection of changed code: only another version counts as other code.
        manager: The manager whose workers run the tasks, with the settings in ``config/task.MANAGER.env``; empty for the default one.
        mpi: How many MPI processes a task is; it takes as many slots. All call the function, which gets their communicator as ``mpicomm``,
            and the result is that of rank 0. A function that returns a command is called once; ``{mpi}`` in the command starts the
            processes.
    """
    if function is None:
        return functools.partial(app, bash=bash, pickle=pickle, version=version, manager=manager, mpi=mpi)
    if isinstance(function, App):
        function = function.function
    if not callable(function) or isinstance(function, type):
        script_end.show_errors()
        raise ArgumentsError(f"app() takes a function, not {function!r:.100}")
    if mpi is not None and (isinstance(mpi, bool) or not isinstance(mpi, int) or not 1 <= mpi <= MOST_PROCESSES):
        script_end.show_errors()
        raise ArgumentsError(f"mpi is {mpi!r}; it is the number of MPI processes of a task, from 1 to {MOST_PROCESSES}")
    return App(function, bash=bash, pickle=pickle, version=version, manager=manager, mpi=mpi)


def known_apps() -> list[App[Any, Any]]:
    """Return the apps of this process, oldest first, including those that are called inside tasks only."""
    return list(_apps.values())


def _restored(
    function: Any, bash: bool, pickle: bool, version: str | None, manager: str, mpi: int | None
) -> App[Any, Any]:
    return App(function, bash=bash, pickle=pickle, version=version, manager=manager, mpi=mpi)


def _module_of(function: Any) -> str:
    """Return the module that defines a function, as workers would import it.

    Raises:
        UsageError: It is a script that they cannot import.
    """
    if function.__module__ != "__main__" or by_value.is_session() or script_import.is_worker():
        module: str = function.__module__
        return module
    path: str = sys.modules["__main__"].__file__  # type: ignore[assignment]
    found = script_import.script_module(path, str(current.flow().project))
    if not found:
        name = getattr(function, "__qualname__", repr(function))
        raise UsageError(
            f"{name} is defined in {path}, which workers of {current.flow().project} cannot import. Move it into a module of the project, "
            "such as task.py."
        )
    return found


def _is_importable(function: Any, module: str, wrapper: Any) -> bool:
    """Return whether workers can import a function by its name; its module may have ``wrapper`` under that name instead."""
    if module == "__main__":
        return False
    found: Any = sys.modules["__main__"] if function.__module__ == "__main__" else sys.modules.get(module)
    for step in getattr(function, "__qualname__", "").split("."):
        found = getattr(found, step, None)
    return found is function or found is wrapper or getattr(found, "function", None) is function


def _signature(function: Any) -> inspect.Signature:
    """Return the parameters for which a call has arguments: those that the worker provides may be left out."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError) as error:
        script_end.show_errors()
        raise ArgumentsError(
            f"The parameters of {function!r} are not known. Wrap it in a function of the project."
        ) from error
    own = [one for one in signature.parameters.values() if one.name not in INJECTED]
    injected = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=None)
        for one in signature.parameters.values()
        if one.name in INJECTED
    ]
    at = len(own) - (bool(own) and own[-1].kind is inspect.Parameter.VAR_KEYWORD)
    return signature.replace(parameters=[*own[:at], *injected, *own[at:]])
