"""Forking a runner for less than Python's own fork costs.

``os.fork`` runs Python handlers in the child (of ``logging``, ``threading``, ``random``, …) that touch hundreds of memory pages, each of
which has to be copied: measured, they are half of what a process per task costs. A slot has one thread, so there is nothing for them to
repair, and the C library's own ``fork`` does. Handlers that the user's modules registered are still called; the random generators get
new seeds, or every task would draw the same numbers.
"""

import _signal  # type: ignore[import-not-found]
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

_Handler = Callable[[], Any]

#: Signals that ask a worker for its end.
STOPPING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

#: Modules whose handlers only matter with more than one thread, or whose work is done here.
_NEEDLESS = frozenset({"logging", "threading", "random", "concurrent.futures.thread", "weakref"})

#: What was registered, in that order: before the fork, after it in the parent, after it in the child.
_handlers: list[tuple[_Handler | None, _Handler | None, _Handler | None]] = []


def record_handlers() -> None:
    """Take note of what is registered with ``os.register_at_fork`` from now on; called before the user's module is imported."""
    original = os.register_at_fork

    def register_at_fork(
        *,
        before: _Handler | None = None,
        after_in_parent: _Handler | None = None,
        after_in_child: _Handler | None = None,
    ) -> None:
        given = {"before": before, "after_in_parent": after_in_parent, "after_in_child": after_in_child}
        original(**{when: handler for when, handler in given.items() if handler is not None})
        if not any(
            getattr(handler, "__module__", None) in _NEEDLESS for handler in given.values() if handler is not None
        ):
            _handlers.append((before, after_in_parent, after_in_child))

    os.register_at_fork = register_at_fork


def _call(handlers: Iterable[_Handler | None]) -> None:
    """Call handlers; like Python, go on when one raises."""
    for handler in handlers:
        if handler is None:
            continue
        try:
            handler()
        except Exception:
            import traceback

            traceback.print_exc()


def _no_fork() -> int:
    raise OSError("this system has no fork; START_METHOD=spawn works here")


def _load_fork() -> Callable[[], int]:
    if not sys.platform.startswith("linux"):
        return getattr(os, "fork", _no_fork)
    import ctypes

    return ctypes.PyDLL(None).fork  # PyDLL: keeps the interpreter's lock, which the child then holds too


_fork = _load_fork()
_users_mask: set[signal.Signals | int] | None = None
_reseed: list[_Handler] | None = None
_calls_handlers = False


def fork() -> int:
    """Fork this process; 0 in the child. Must be followed there by ``after_fork``.

    Raises:
        OSError: The system has no room for another process.
    """
    global _reseed, _fork, _calls_handlers
    if _reseed is None:
        if _fork is not os.fork and len(os.listdir("/proc/self/task")) > 1:
            _fork = os.fork
        _reseed = _reseeders()
        _calls_handlers = _fork is not os.fork and bool(_handlers)
    if not _calls_handlers:
        pid = _fork()
    else:
        _call(before for before, _, _ in reversed(_handlers))
        pid = _fork()
        if pid:
            _call(in_parent for _, in_parent, _ in _handlers)
    return os.fork() if pid < 0 else pid  # os.fork fails in the same way, and says why


def reseed() -> None:
    """Seed the random generators of a process that was not forked, whatever the user's module has done to the generators."""
    for seed in _reseeders():
        seed()


def after_fork() -> None:
    """Seed the child's random generators anew, and call the handlers of the user's modules."""
    for seed in _reseed or ():
        seed()
    if _calls_handlers:
        _call(in_child for _, _, in_child in _handlers)


def block_stopping_signals() -> None:
    """Have this process and its children untouched by signals that ask for the end.

    Who sends them to all of a worker's processes at once (systemd, scancel) means the supervisor, which sees to the others.
    """
    global _users_mask
    if hasattr(signal, "pthread_sigmask"):
        _users_mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)


def unblock_inherited_signals() -> None:
    """Let signals in again, in a process that was started by one in which they are blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING_SIGNALS)


def unblock_signals() -> None:
    """Let signals in again, in a process that runs user code and was forked from one in which they are blocked."""
    if _users_mask is not None:
        _signal.pthread_sigmask(
            signal.SIG_SETMASK, _users_mask
        )  # without the layer that makes enums of what it returns


def die_of_interrupt() -> None:
    """End this process as SIGINT ends one that does not handle it, for its parent to see why it ended."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _reseeders() -> list[_Handler]:
    """Find what gives the loaded generators new seeds; for ``random`` without its layer in Python, which touches more pages."""
    found: list[_Handler] = []
    if "random" in sys.modules:
        import _random
        import random

        random.seed()  # forgets the second of a pair of normal deviates, which the layer below does not know of
        found.append(partial(_random.Random.seed, random._inst))
    if "numpy.random" in sys.modules:
        found.append(sys.modules["numpy.random"].seed)
    return found
