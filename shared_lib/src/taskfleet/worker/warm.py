"""The warm process: imports the user's module once and forks the slots, so that starting a slot costs a fork and not an interpreter.

The supervisor starts it as ``python -m taskfleet.worker.warm FD`` in its own session, so that Ctrl-C at the terminal reaches only the
supervisor. It reads its configuration as JSON from standard input, answers with one JSON line on the socket, and then receives one socket
for each slot to start. It exits, with all its descendants, when the supervisor exits.

With a start method other than fork, it has the module imported in a separate process, to find out whether it can be, and spawns the slots.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

from taskfleet.errors import FunctionError
from taskfleet.functions import TaskFunction
from taskfleet.processes.sockets import receive_socket, receive_start
from taskfleet.processes.tree import adopt_orphans, children_of, die_with_parent, kill_orphans
from taskfleet.script_import import become_worker
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.forking import block_stopping_signals, prepare_generators, record_handlers
from taskfleet.worker.graph_calls import load_task_function, preload
from taskfleet.worker.left_open import open_descriptors, shared_by_tasks
from taskfleet.worker.lost_threads import fork_note, lost_threads
from taskfleet.worker.slot import Slot
from taskfleet.worker.wire import Channel

TICK_SECONDS = 1.0
EXIT_SECONDS = 5.0


def main() -> None:
    """Serve the supervisor at the other end of the descriptor given as the first argument."""
    # The import of the user's module may never return, and meanwhile nothing reads from the supervisor's socket.
    die_with_parent(True)
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = sys.stdin.readline()
    if not line:  # the supervisor has exited
        return
    values = json.loads(line)
    control = receive_start(sys.argv[1], values)
    config = WorkerConfig.from_json(values["config"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [config.function, *config.args]
    if config.start_method != "fork":
        _start_without_fork(control, config)
        return
    become_worker()
    record_handlers()
    opened_before = open_descriptors()
    try:
        function = load_task_function(config)
        codes = preload(config)
    except FunctionError as error:
        _answer(control, {"error": str(error)})
        return
    threads = lost_threads()
    if threads and config.is_start_method_free:
        _answer(control, {"start_method": "forkserver", "warnings": [fork_note(threads, config)]})
        return
    block_stopping_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    warnings = shared_by_tasks(opened_before, config)
    gc.collect()
    warnings += prepare_generators()
    if threads:
        warnings.append(fork_note(threads, config))
    gc.freeze()  # collections in the children do not touch the objects loaded so far, so their pages stay shared
    die_with_parent(False)
    _answer(control, {"ready": True, "warnings": warnings, "codes": codes})
    _start_slots(control, function, config)


def _start_without_fork(control: socket.socket, config: WorkerConfig) -> None:
    """Do the same without the user's module, which is only imported in another process."""
    from multiprocessing import resource_tracker

    from taskfleet.worker.launching import try_import

    if sys.platform != "win32":
        resource_tracker.ensure_running()  # a helper process of the standard library, shared by all descendants
    helpers = frozenset(children_of(os.getpid()))
    answer = try_import(config)
    kill_orphans(spare=helpers)
    if answer is None:
        return
    block_stopping_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    die_with_parent(False)
    _answer(control, answer)
    if "ready" in answer:
        _start_slots(control, None, config)


def _answer(control: socket.socket, answer: dict[str, object]) -> None:
    with suppress(OSError):
        control.sendall(json.dumps(answer).encode() + b"\n")


def _start_slots(control: socket.socket, function: TaskFunction | None, config: WorkerConfig) -> None:
    helpers = frozenset(children_of(os.getpid()))  # started by the user's module; they live as long as this process
    slots: dict[int, Any] = {}
    wakeup, writer = socket.socketpair()  # the exit of a child wakes the loop
    wakeup.setblocking(False)
    writer.setblocking(False)
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([control, wakeup], [], [], TICK_SECONDS)
        if wakeup in ready:
            wakeup.recv(4096)
        if control in ready:
            sock = receive_socket(control)
            if sock is None:
                break
            if function is None:
                from taskfleet.worker.spawned_slots import start_slot

                process = start_slot(sock, config)
                slots[process.pid] = process
            else:
                slots[_fork_slot(sock, (control, wakeup, writer), function, config)] = None
            sock.close()
        _remove_exited(slots)
        kill_orphans(spare=helpers | slots.keys())
    deadline = time.monotonic() + EXIT_SECONDS  # the slots notice the exit of the supervisor too, and clean up
    while slots and time.monotonic() < deadline:
        _remove_exited(slots)
        time.sleep(0.01)
    signal.set_wakeup_fd(-1)  # its socket is closed on return, and children may exit after that


def _fork_slot(
    sock: socket.socket, others: Iterable[socket.socket], function: TaskFunction, config: WorkerConfig
) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in others:
                one.close()
            os.setsid()
            Slot(Channel(sock), function, config).serve()
            code = 0
        finally:
            os._exit(code)
    return pid


def _remove_exited(slots: dict[int, Any]) -> None:
    """Remove the slots that have exited: forked ones by their process id, others by their ``multiprocessing.Process``."""
    for pid, process in list(slots.items()):
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] if process is None else process.exitcode is not None:
                del slots[pid]


def _exit(*_: object) -> NoReturn:
    """Exit this process and its descendants, without waiting for threads that the user's module has started."""
    kill_orphans()
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
        if hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, _exit)
            signal.alarm(int(EXIT_SECONDS))
        atexit._run_exitfuncs()  # called here because os._exit skips them
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        _exit()
