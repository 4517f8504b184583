"""Start slots and runners without fork, by the standard library's ``spawn`` and ``forkserver``.

Where fork is unsafe (macOS) or missing (Windows), the warm process does not import the user's module; each runner imports it in its own
interpreter. Everything else is as with fork: the same slot enforces the same limits on the same runner. Slots are always spawned. With
``forkserver``, each slot has a server that forks its runners before any user code is loaded into it.
"""

import atexit
import json
import multiprocessing
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import connection
from typing import Any, ClassVar

from taskfleet.errors import FunctionError
from taskfleet.functions import TaskFunction
from taskfleet.processes.descriptors import neutralize_descriptors
from taskfleet.processes.tree import CAN_DIE_WITH_PARENT, children_of, die_with_parent, kill_group, lead_group
from taskfleet.script_import import become_worker
from taskfleet.tasks import Lease, Outcome
from taskfleet.worker.chunks import receive_chunk
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.forking import die_of_interrupt, unblock_inherited_signals
from taskfleet.worker.graph_calls import load_task_function, preload
from taskfleet.worker.output import open_output
from taskfleet.worker.randomness import reseed_generators
from taskfleet.worker.records import Record
from taskfleet.worker.runner import Runner
from taskfleet.worker.runner_connection import RunnerConnection
from taskfleet.worker.shared_file import SharedFile
from taskfleet.worker.shared_memory import SharedMemory

#: How often to attempt to start a process if a task has killed the fork server, and the pause between attempts.
START_ATTEMPTS = 20
START_PAUSE_SECONDS = 0.05
#: The exit code that ``multiprocessing`` reports for a process whose fork server died.
LOST_EXIT_CODE = 255
#: Time limit for the exit handlers of the user's module after the trial import.
EXIT_SECONDS = 1.0


class Launcher:
    """Start a slot's runners by ``multiprocessing``; see ``RunnerStarter``."""

    takes_batches: ClassVar[bool] = False

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self._context: Any = multiprocessing.get_context(config.start_method)
        self._process: Any = None
        self.forks_per_task = False
        self.memory = SharedMemory(SharedFile("taskfleet-memory"))
        self.output = open_output(config.output_tail_bytes)
        self.helpers: frozenset[int] = frozenset()
        """The fork server, with ``forkserver``."""

    def start(self, connection: RunnerConnection, leases: Sequence[Lease]) -> int:  # noqa: ARG002
        """See ``RunnerStarter.start``; the first task stays in the connection until the user's module is imported."""
        for left in reversed(range(START_ATTEMPTS)):
            try:
                return self._start(connection.open())
            except (OSError, EOFError) as error:
                if not left:
                    raise OSError(f"cannot start a process: {error!r}") from error
                time.sleep(START_PAUSE_SECONDS)
        raise AssertionError

    def _start(self, sock: socket.socket) -> int:
        if self._config.start_method == "forkserver":
            from multiprocessing import forkserver

            forkserver.set_forkserver_preload([__name__])
            forkserver.ensure_running()
        self.helpers = frozenset(
            children_of(os.getpid())
        )  # a runner's own children are gone before the next one starts
        errors = self.output.errors
        files = (self.output.file, None if errors is None else errors.file)
        process = self._context.Process(
            target=_runner_main, args=(self._config, self.memory.file, files, sock), name="taskfleet-runner"
        )
        process.start()
        self._process = process
        return int(process.pid)

    def pause(self) -> bool:
        """See ``RunnerStarter.pause``; always False, because the child of a fork server cannot be waited for."""
        return False

    def resume(self) -> None:
        """See ``RunnerStarter.resume``."""

    def has_ended(self) -> bool:
        """See ``RunnerStarter.has_ended``."""
        return self._process.exitcode is not None

    def reap(self) -> int:
        """See ``RunnerStarter.reap``."""
        self._process.join()
        code = self._process.exitcode
        if code == LOST_EXIT_CODE and self._config.start_method == "forkserver":
            kill_group(self._process.pid)  # it may be the server that died
        self._process.close()
        return int(code << 8 if code >= 0 else -code)


def try_import(config: WorkerConfig) -> dict[str, object] | None:
    """Import the user's module in a separate process, to find out whether it can be imported.

    Returns:
        The answer for the supervisor: how long it takes to start such a process, or the error; None if the process died.
    """
    context: Any = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    began = time.monotonic()
    process = context.Process(target=_trial_main, args=(config, theirs), name="taskfleet-trial")
    process.start()
    theirs.close()
    try:
        answer: dict[str, object] = json.loads(ours.recv_bytes())
    except (EOFError, OSError):
        answer = {}
    seconds = time.monotonic() - began
    process.join(EXIT_SECONDS)
    process.kill()
    process.join()
    if "ready" in answer:
        answer["start_seconds"] = seconds
    return answer or None


# --- main functions of the started processes; none of them returns ---


def _trial_main(config: WorkerConfig, answers: "connection.Connection[Any, Any]") -> None:
    try:
        die_with_parent(True)
        try:
            become_worker()
            load_task_function(config)
            codes = preload(config)
            answer: dict[str, object] = {"ready": True, "warnings": reseed_generators().warnings, "codes": codes}
        except FunctionError as error:
            answer = {"error": str(error)}
        answers.send_bytes(json.dumps(answer).encode())
        answers.close()
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _runner_main(
    config: WorkerConfig, memory_file: SharedFile, files: tuple[SharedFile, SharedFile | None], sock: socket.socket
) -> None:
    code = 1
    try:
        lead_group()
        unblock_inherited_signals()
        _exit_with_slot()
        output = open_output(config.output_tail_bytes, files)
        output.redirect()
        memory = SharedMemory(memory_file, fresh=False)
        neutralize_descriptors(memory_file.fd)
        function = _import(config, sock, memory)
        if function is not None:
            output.take()  # output of the import belongs to no task
            chunk = receive_chunk(sock)
            if chunk is not None:
                Runner(function, config, memory, output, sock).serve(chunk)
            code = 0
    except KeyboardInterrupt:
        die_of_interrupt()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _exit_with_slot() -> None:
    die_with_parent(True)
    parent = multiprocessing.parent_process()
    if not CAN_DIE_WITH_PARENT and parent is not None:
        threading.Thread(target=_exit_with, args=(parent.sentinel,), daemon=True).start()


def _exit_with(sentinel: int) -> None:
    """Exit with the process of this sentinel. This is a thread, so code that holds the GIL can delay it."""
    connection.wait([sentinel])
    kill_group(os.getpid())
    os._exit(1)


def _import(config: WorkerConfig, sock: socket.socket, memory: SharedMemory) -> TaskFunction | None:
    """Import the user's module; if that fails here, although the trial import succeeded, fail the current task."""
    try:
        become_worker()
        function = load_task_function(config)
        preload(config)
    except FunctionError as error:
        receive_chunk(sock)
        memory.begin(0, time.monotonic())
        record = Record(
            task_index=0,
            outcome=Outcome.EXIT,
            started_at=time.time(),
            elapsed_seconds=0.0,
            exit_code=1,
            error=str(error).encode("utf-8", "replace"),
        )
        sock.sendall(record.pack())
        return None
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    reseed_generators()  # the module may have seeded them
    return function
