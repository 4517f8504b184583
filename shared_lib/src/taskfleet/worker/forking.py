"""Forking a runner for less than Python's own fork costs.

``os.fork`` runs Python handlers in the child (of ``logging``, ``threading``, ``random``, …) that touch hundreds of memory pages, each of
which has to be copied: measured, they are half of what a process per task costs. A slot has one thread, so there is nothing for them to
repair, and the C library's own ``fork`` does. Handlers that the user's modules registered are still called; the random generators get
new seeds, or every task would draw the same numbers.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

#: Modules whose handlers only matter with more than one thread, or are stood in for here.
_NEEDLESS = frozenset({"logging", "threading", "random", "concurrent.futures.thread", "weakref"})

_handlers: list[Callable[[], Any]] = []


def record_handlers() -> None:
    """Take note of what is registered with ``os.register_at_fork`` from now on; called before the user's module is imported."""
    original = os.register_at_fork

    def register_at_fork(**handlers: Callable[[], Any]) -> None:
        after = handlers.get("after_in_child")
        if after is not None and getattr(after, "__module__", None) not in _NEEDLESS:
            _handlers.append(after)
        original(**handlers)

    os.register_at_fork = register_at_fork  # type: ignore[assignment]


def _load_fork() -> Callable[[], int]:
    if not sys.platform.startswith("linux"):
        return os.fork
    import ctypes

    return ctypes.PyDLL(None).fork  # PyDLL: keeps the interpreter's lock, which the child then holds too


_fork = _load_fork()
_in_child: list[Callable[[], Any]] | None = None


def fork() -> int:
    """Fork this process; 0 in the child. Must be followed there by ``after_fork_in_runner``.

    Raises:
        OSError: The system has no room for another process.
    """
    global _in_child, _fork
    if _in_child is None:
        if _fork is not os.fork and len(os.listdir("/proc/self/task")) > 1:
            _fork = os.fork
        _in_child = _reseeders() + ([] if _fork is os.fork else _handlers)
    pid = _fork()
    return os.fork() if pid < 0 else pid  # os.fork fails in the same way, and says why


def after_fork_in_runner() -> None:
    """Give the child random numbers of its own, and call the handlers of the user's modules."""
    for action in _in_child or ():
        action()


def _reseeders() -> list[Callable[[], Any]]:
    return [sys.modules[name].seed for name in ("random", "numpy.random") if name in sys.modules]
