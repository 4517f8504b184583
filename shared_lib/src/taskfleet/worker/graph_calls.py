"""Runs the tasks of graphs: calls of any function of the project, with values of more types than JSON has."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.code_versions.describing import describe_code
from taskfleet.context import TaskContext
from taskfleet.errors import FunctionError, NoFunctionError
from taskfleet.functions import INJECTED, TaskFunction, load_function, load_object
from taskfleet.processes.mpi import expand, program_of
from taskfleet.references import INLINE_BYTES, Store, as_file, decode, decode_plain, encode, encode_plain
from taskfleet.script_import import Absent, was_stopped
from taskfleet.tables.values import UnsupportedValueError
from taskfleet.tasks import JSON, Lease, processes_of, without_processes
from taskfleet.worker import stored_functions
from taskfleet.worker.config import WorkerConfig

#: The key under which the data of a call have the arguments of ``*args``.
STAR = "*"
#: How the name of a function begins that returns a command.
BASH = "bash:"
#: Read by mpi4py when it is imported.
_INITIALISES_MPI = "MPI4PY_RC_INITIALIZE"
#: How it begins if arguments and results may be pickled.
PICKLE = "pickle:"


class CommandExit(SystemExit):
    """A command that a function returned ended with another code than 0."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Function:
    call: Callable[..., Any]
    signature: inspect.Signature
    injected: frozenset[str]
    is_bash: bool
    may_pickle: bool
    has_positional_only: bool


#: The functions that were loaded in this process or in one that it was forked from, by name.
_loaded: dict[str, _Function] = {}
#: The names of functions whose code the slot has reported to the worker; its runners inherit it.
_reported: set[str] = set()


class GraphCalls:
    """Calls the functions of a graph's tasks, in a process that may run user code."""

    def __init__(self, config: WorkerConfig) -> None:
        self._project = Path(config.project)
        self._store = Store(config.results_path)
        self._may_pickle = False
        self._known_before = config.graph_functions.keys()
        """Their code was reported when the worker started."""
        self._codes: dict[str, str] = {}

    def load(self, name: str) -> _Function:
        """Import a function, unless it is.

        Raises:
            FunctionError: It cannot be imported.
        """
        found = _loaded.get(name)
        if found is None:
            own_name = without_processes(name)
            is_stored = stored_functions.is_stored(own_name)
            with mpi_left_to_ranks(name != own_name):
                found = (
                    _load_stored(own_name, self._store, self._project) if is_stored else _load(own_name, self._project)
                )
            _loaded[name] = found
            if not is_stored and name not in self._known_before and own_name not in _reported:
                with suppress(Exception):  # a task does not fail because its code cannot be described
                    self._codes[own_name] = code_hash(found.call, "", self._project)
        return found

    def take_codes(self) -> dict[str, str]:
        """Return the hashes of the code of the functions that were loaded since the last call, by their names."""
        codes = self._codes
        if codes:
            self._codes = {}
        return codes

    def prepare(self, lease: Lease) -> dict[str, Any] | None:
        """Load the function of a task; return its arguments if nothing but JSON is needed for that, otherwise None."""
        self.load(lease.function)
        arguments: dict[str, Any] | None = decode_plain(lease.data)
        return arguments

    def call(
        self,
        lease: Lease,
        make_context: Callable[[Lease], TaskContext],
        arguments: dict[str, Any] | None = None,
    ) -> Any:
        """Return what the function of a task returns; for one that returns a command, run it and return None.

        Args:
            lease: The task.
            make_context: Makes the context, if the function has a parameter for it.
            arguments: What ``prepare`` returned.
        """
        function = self.load(lease.function)
        self._may_pickle = function.may_pickle
        if arguments is None:
            arguments = decode(lease.data, self._store, pickle=function.may_pickle)
        if function.injected:
            context = make_context(lease)
            values = {
                "context": context,
                "output_path": context.output_path,
                "task_id": context.task_id,
                "mpicomm": context.mpicomm,
            }
            arguments = {name: values[name] for name in function.injected} | arguments
        if STAR in arguments or function.has_positional_only:
            bound = inspect.BoundArguments(function.signature, in_order(function.signature, arguments))
            value = function.call(*bound.args, **bound.kwargs)
        else:
            value = function.call(**arguments)
        if not function.is_bash:
            return value
        return _run_command(expand(value, make_context(lease).mpi) if processes_of(lease.function) else value)

    def encode(self, value: object) -> bytes:
        """Return the result of the latest call as JSON text; see ``references.encode``."""
        data = encode_plain(value)  # first, because a process per task copies each memory page that more code touches
        if data is not None:
            return data if len(data) <= INLINE_BYTES else as_file(data, self._store)
        calls: dict[str, tuple[str, str, str]] = {}

        def encode_part(part: object) -> str:
            return encode(part, self._store, special=special, pickle=self._may_pickle).decode()

        def special(part: object) -> JSON:
            if type(part).__module__ != "taskfleet.graph.parts":
                _refuse_future(part)
                return None
            call = part.as_call(encode_part)  # type: ignore[attr-defined]
            calls[call[0]] = call
            return {"$task": call[0]}

        text = encode_part(value)
        if not calls:
            return text.encode()
        return json.dumps({"$calls": {"value": text, "calls": list(calls.values())}}, separators=(",", ":")).encode()


def preload(config: WorkerConfig) -> dict[str, str]:
    """Import the functions of the job's graph that can be imported; the others fail with their tasks.

    Returns:
        The hash of the code of each, by the name of the function.
    """
    calls = GraphCalls(config)
    codes = {}
    for name, version in config.graph_functions.items():
        try:
            function = calls.load(name)
            codes[without_processes(name)] = code_hash(function.call, version, Path(config.project))
        except FunctionError:
            continue
    return codes


@contextmanager
def mpi_left_to_ranks(wanted: bool) -> Iterator[None]:
    """If a function is for MPI, let its modules import mpi4py without initialising MPI, which the processes that call it do."""
    before = os.environ.get(_INITIALISES_MPI)
    if wanted and before is None:
        os.environ[_INITIALISES_MPI] = "0"
    try:
        yield
    finally:
        if wanted and before is None:
            del os.environ[_INITIALISES_MPI]


def note_reported(names: Iterable[str]) -> None:
    """Note, in the slot, functions whose code need not be reported again."""
    _reported.update(names)


def code_hash(function: Callable[..., Any], version: str, project: Path) -> str:
    """Return what identifies the code of a function: the version that its app declares, or else a hash.

    Raises:
        FunctionError: The code cannot be described.
    """
    return f"version {version}" if version else describe_code(function, project).digest


def load_task_function(config: WorkerConfig) -> TaskFunction:
    """Import TASK_FUNCTION. If it does not exist and the job may have a graph, which need not have it, return one that raises the error.

    Raises:
        FunctionError: It cannot be imported, or does not exist and the job has no graph.
    """
    may_use_mpi = bool(config.mpi_processes) or any(map(processes_of, config.graph_functions))
    try:
        with mpi_left_to_ranks(may_use_mpi):
            return load_function(config.function, Path(config.project), is_rms_style=config.is_rms_style)
    except FunctionError as error:
        is_missing = isinstance(error, NoFunctionError)
        if not (config.graph_functions or (config.may_have_graph and is_missing)):
            raise
        reason = str(error)

    def call(**_arguments: Any) -> None:
        raise FunctionError(reason)

    nothing: frozenset[str] = frozenset()
    return TaskFunction(
        name=config.function,
        call=call,
        required=nothing,
        accepted=nothing,
        accepts_any=True,
        injected=nothing,
        is_rms_style=False,
    )


def _load(name: str, project: Path) -> _Function:
    kinds, name = name.split(":")[:-2], ":".join(name.split(":")[-2:])
    try:
        found = load_object(name, project, setting="")
    except FunctionError as error:
        if was_stopped(name.partition(":")[0]):
            raise FunctionError(
                f"{error} Define functions before the script waits for a result: workers import it up to there."
            ) from None
        raise
    if type(found).__module__ == "taskfleet.graph.apps":
        found = found.function
    return _examined(found, is_bash=BASH[:-1] in kinds, may_pickle=PICKLE[:-1] in kinds)


def _load_stored(name: str, store: Store, project: Path) -> _Function:
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    stored, call = stored_functions.load(name, store)
    return _examined(call, is_bash=stored.is_bash, may_pickle=stored.may_pickle)


def _examined(function: Callable[..., Any], *, is_bash: bool, may_pickle: bool) -> _Function:
    signature = inspect.signature(function)
    return _Function(
        call=function,
        signature=signature,
        injected=INJECTED & signature.parameters.keys(),
        is_bash=is_bash,
        may_pickle=may_pickle,
        has_positional_only=any(one.kind is one.POSITIONAL_ONLY for one in signature.parameters.values()),
    )


def in_order(signature: inspect.Signature, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments as ``inspect.BoundArguments`` has them."""
    found: dict[str, Any] = {}
    rest = dict(arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            found[name] = tuple(rest.pop(STAR, ()))
        elif parameter.kind is parameter.VAR_KEYWORD:
            found[name] = rest
        elif name in rest:
            found[name] = rest.pop(name)
    return found


def _refuse_future(part: object) -> None:
    """Raise UnsupportedValueError for what stands for a future in a worker."""
    if isinstance(part, Absent):
        raise UnsupportedValueError(
            (),
            part,
            "a task returns values, not the results of other calls",
            "Pass the future to the task as an argument.",
        )


def _run_command(command: Any) -> None:
    """Run a command; its output becomes that of the task.

    Raises:
        CommandExit: It ended with another code than 0.
        TypeError: It is neither a text nor a list.
    """
    if isinstance(command, str):
        words = ["bash", "-euo", "pipefail", "-c", command]
    elif isinstance(command, list | tuple):
        words = [str(word) for word in command]
    else:
        raise TypeError(f"a bash app returns a list of arguments or a text, not {command!r:.100}")
    sys.stdout.flush()
    sys.stderr.flush()
    code = subprocess.run(words, check=False, stdin=subprocess.DEVNULL).returncode
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        raise CommandExit(code, f"CommandExit: {program_of(words)} {how}")
