"""Load the user's task function, inspect its parameters, and prepare its calls."""

import functools
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.context import Retry, TaskContext
from taskfleet.errors import FunctionError, NoFunctionError
from taskfleet.extras import distribution_of
from taskfleet.name_clashes import package_clash, python_clash
from taskfleet.script_import import import_module
from taskfleet.tracebacks import describe_users_error

#: Parameters that the worker provides; columns must not have these names.
INJECTED = frozenset({"context", "mpicomm", "output_path", "task_id"})

#: A parameter that is OUTPUT_PATH (CF_CLOUDPATH) in tables without such a column, as in projects for python-task-queue.
CLOUDPATH = "cloudpath"

#: The parameters of a function written for rms-cloud-tasks.
RMS_PARAMETERS = ("task_id", "task_data", "worker_data")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFunction:
    """A task function and its parameters."""

    name: str
    call: Callable[..., Any]
    required: frozenset[str]
    """Columns that it requires."""
    accepted: frozenset[str]
    """All columns that it has parameters for."""
    accepts_any: bool
    """Whether it has ``**kwargs``, or takes its data as one mapping."""
    injected: frozenset[str]
    """The parameters that the worker provides."""
    is_rms_style: bool
    has_own_cloudpath: bool = False
    """Whether its parameter CLOUDPATH has a default."""

    def column_mismatch(self, columns: frozenset[str]) -> str | None:
        """Return how a table's columns and the parameters differ; None if they match."""
        missing = sorted(self.required - columns)
        surplus = [] if self.accepts_any else sorted(columns - self.accepted)
        if not missing and not surplus:
            return None
        parts = []
        if missing:
            parts.append(f"the table lacks {_listed('column', missing)}")
        if surplus:
            parts.append(f"the table has {_listed('column', surplus)} that {self.name} has no parameter for")
        filled = sorted((columns & INJECTED) - self.accepted)
        if filled:
            parts.append(f"{_listed('the name', filled)} {'are' if len(filled) > 1 else 'is'} reserved for the worker")
        wanted = ", ".join(sorted(self.accepted)) or "no columns"
        return f"The columns do not match {self.name}: {'; '.join(parts)}. It takes {wanted}. Rename the columns or the parameters."

    def arguments(self, data: str, context: TaskContext) -> dict[str, Any]:
        """Return the keyword arguments of a call.

        Args:
            data: The task's arguments, a JSON object.
            context: The context of the attempt.
        """
        found: dict[str, Any] = json.loads(data)
        if self.is_rms_style:
            from taskfleet.worker_data import WorkerData

            return {"task_id": context.task_id, "task_data": found, "worker_data": WorkerData(context)}
        if self.injected:
            if "context" in self.injected:
                found["context"] = context
            if "mpicomm" in self.injected:
                found["mpicomm"] = context.mpicomm
            if "output_path" in self.injected:
                found["output_path"] = context.output_path
            if "task_id" in self.injected:
                found["task_id"] = context.task_id
            if CLOUDPATH in self.injected and (context.output_path is not None or not self.has_own_cloudpath):
                found.setdefault(CLOUDPATH, context.output_path)
        return found

    def result(self, answer: Any) -> Any:
        """Return the result of a call that returned ``answer``.

        Raises:
            Retry: A function in the style of rms-cloud-tasks requested a retry.
            TypeError: It returned something other than ``(retry, result)``.
        """
        if not self.is_rms_style:
            return answer
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], bool)):
            raise TypeError(f"{self.name} returned {answer!r:.100}, not a tuple (retry, result) with a bool first")
        retry, result = answer
        if retry:
            raise Retry(f"{self.name} requested a retry: {result!r:.500}")
        return {} if result is None else result


def load_function(name: str, project: Path, *, is_rms_style: bool = False) -> TaskFunction:
    """Import a task function.

    Args:
        name: ``module:function``.
        project: The folder of the module; it is added to the front of ``sys.path``.
        is_rms_style: See ``examine``.

    Raises:
        FunctionError: The module or function does not exist, it raises while it is imported, or its parameters are not supported.
    """
    return examine(load_object(name, project), is_rms_style=is_rms_style)


def load_object(name: str, project: Path, *, setting: str = "TASK_FUNCTION") -> Any:
    """Import the object ``module:name``; errors as for ``load_function``, with the name of the setting that has it, if one has."""
    named, remedy = (f"{setting}={name}", f" Set {setting} to module:function.") if setting else (name, "")
    module_name, _, attribute = name.partition(":")
    clash = python_clash(str(project)) or package_clash(str(project))
    if clash is not None:
        raise FunctionError(clash)
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if f"{module_name}.".startswith(f"{error.name}."):
            raise NoFunctionError(f"{named}: there is no module {error.name!r} in {project}.{remedy}") from None
        package = distribution_of(error.name or "NAME")
        raise FunctionError(
            f"{name} cannot be imported: the module {error.name!r} is not installed. Add its package to the project: uv add {package} "
            f"(machines install only what a worker needs and what the project itself depends on).\n{describe_users_error(error)}"
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise FunctionError(f"{name} cannot be imported: {describe_users_error(error)}") from error
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        raise NoFunctionError(
            f"{named}: {getattr(module, '__file__', module_name)} has no function {attribute!r}."
        ) from None


def find_beside(name: str, attribute: str) -> Any:
    """Return an attribute of the module of a loaded ``module:function``; None if it has none of this name."""
    return getattr(sys.modules[name.partition(":")[0]], attribute, None)


def examine(function: Any, *, is_rms_style: bool = False) -> TaskFunction:
    """Inspect the parameters of a function.

    Args:
        function: The function.
        is_rms_style: Whether it is one for rms-cloud-tasks, whatever the names of its three parameters are.

    Raises:
        FunctionError: It cannot be called with keyword arguments.
    """
    if not callable(function):
        raise FunctionError(f"{function!r} is not a function.")
    name = getattr(function, "__name__", repr(function))
    if inspect.iscoroutinefunction(function):
        raise FunctionError(f"{name} is an async function; write a plain one that calls asyncio.run(…).")
    parameters = inspect.signature(function).parameters
    if is_rms_style or tuple(parameters) == RMS_PARAMETERS:
        return TaskFunction(
            name=name,
            call=function if tuple(parameters) == RMS_PARAMETERS else _positional(function),
            required=frozenset(),
            accepted=frozenset(),
            accepts_any=True,
            injected=frozenset(),
            is_rms_style=True,
        )
    named = {}
    accepts_any = False
    for parameter in parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            accepts_any = True
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise FunctionError(
                f"{name}: its parameter {parameter.name!r} is positional only, but columns are passed as keyword arguments."
            )
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            named[parameter.name] = parameter
    columns = {key: parameter for key, parameter in named.items() if key not in INJECTED}
    return TaskFunction(
        name=name,
        call=function,
        required=frozenset(
            key for key, parameter in columns.items() if parameter.default is parameter.empty and key != CLOUDPATH
        ),
        accepted=frozenset(columns),
        accepts_any=accepts_any,
        injected=(INJECTED | {CLOUDPATH}) & named.keys(),
        is_rms_style=False,
        has_own_cloudpath=CLOUDPATH in named and named[CLOUDPATH].default is not inspect.Parameter.empty,
    )


def _positional(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda task_id, task_data, worker_data: function(task_id, task_data, worker_data)


def _listed(noun: str, names: list[str]) -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"
