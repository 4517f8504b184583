"""The warm process: imports the user's module once and forks the slots, so that a slot costs a fork and not an interpreter.

Started by the supervisor as ``python -m taskfleet.worker.warm FD`` in a session of its own, so that Ctrl-C at the terminal reaches the
supervisor alone. It reads its order as JSON from standard input, answers with one JSON line on the socket, and then gets one byte and
one descriptor for each slot it is to fork. When the supervisor is gone it ends, and everything below it.
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
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from taskfleet.errors import FunctionError
from taskfleet.functions import TaskFunction, load_function
from taskfleet.worker.forking import block_stopping_signals, record_handlers
from taskfleet.worker.order import Order
from taskfleet.worker.slot import Slot
from taskfleet.worker.system import adopt_orphans, children_of, die_with_parent, end_orphans
from taskfleet.worker.wire import Channel

TICK_SECONDS = 1.0
LAST_WAIT_SECONDS = 5.0


def main() -> None:
    """Serve the supervisor at the other end of the descriptor given as the first argument."""
    die_with_parent(
        True
    )  # while the user's module is imported, which may take for ever, nobody listens for the supervisor's end
    adopt_orphans()
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = Order.unpack(json.loads(sys.stdin.readline()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = [order.function, *order.args]
    record_handlers()
    try:
        function = load_function(order.function, Path(order.project))
    except FunctionError as error:
        _answer(control, {"error": str(error)})
        return
    block_stopping_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    gc.collect()
    gc.freeze()  # what is loaded now is not touched by collections in the children, so its pages stay shared
    die_with_parent(False)
    _answer(control, {"ready": True})
    _fork_slots(control, function, order)


def _answer(control: socket.socket, answer: dict[str, object]) -> None:
    with suppress(OSError):
        control.sendall(json.dumps(answer).encode() + b"\n")


def _fork_slots(control: socket.socket, function: TaskFunction, order: Order) -> None:
    helpers = frozenset(children_of(os.getpid()))  # started by the user's module; they live as long as this process
    slots: set[int] = set()
    wakeup, writer = socket.socketpair()  # a child's death wakes the loop
    wakeup.setblocking(False)
    writer.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([control, wakeup], [], [], TICK_SECONDS)
        if wakeup in ready:
            wakeup.recv(4096)
        if control in ready:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not message:
                break
            sock = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for one in (control, wakeup, writer):
                        one.close()
                    os.setsid()
                    Slot(Channel(sock), function, order).serve()
                    code = 0
                finally:
                    os._exit(code)
            sock.close()
            slots.add(pid)
        slots -= _ended(slots)
        end_orphans(spare=helpers | slots)
    deadline = (
        time.monotonic() + LAST_WAIT_SECONDS
    )  # the slots see the supervisor's end too and clear up after themselves
    while slots and time.monotonic() < deadline:
        slots -= _ended(slots)
        time.sleep(0.01)


def _ended(slots: set[int]) -> set[int]:
    ended = set()
    for pid in slots:
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0]:
                ended.add(pid)
    return ended


def _leave(*_: object) -> NoReturn:
    """End this process and all below it, without waiting for threads that the user's module has started."""
    end_orphans()
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
        signal.signal(signal.SIGALRM, _leave)
        signal.alarm(int(LAST_WAIT_SECONDS))
        atexit._run_exitfuncs()  # what the user's module wants done, done here because _leave skips it
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        _leave()
