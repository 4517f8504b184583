"""Fork a runner at a lower cost than ``os.fork``.

``os.fork`` runs Python handlers in the child (of ``logging``, ``threading``, ``random``, …) that touch hundreds of memory pages, and each
of them has to be copied. By measurement, that is half of the cost of a process per task. A slot has one thread, so these handlers have
nothing to repair, and the C library's ``fork`` suffices. Handlers that the user's modules registered still run, and random generators get
a new state (see ``randomness``).
"""

import _signal  # type: ignore[import-not-found]
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

from taskfleet.worker.randomness import reseed_generators

_Handler = Callable[[], Any]

#: Signals that stop a worker.
STOPPING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

#: Modules whose handlers matter only with several threads, or whose work is done in this module.
_NEEDLESS = frozenset({"logging", "threading", "random", "concurrent.futures.thread", "weakref"})

#: Registered handlers: before the fork, after it in the parent, after it in the child.
_handlers: list[tuple[_Handler | None, _Handler | None, _Handler | None]] = []


def record_handlers() -> None:
    """Record what is registered with ``os.register_at_fork`` from now on. Call it before the user's module is imported."""
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
    """Call handlers; like Python, continue after one raises."""
    for handler in handlers:
        if handler is None:
            continue
        try:
            handler()
        except Exception:
            import traceback

            traceback.print_exc()


def _no_fork() -> int:
    raise OSError("this system has no fork; set START_METHOD=spawn")


def _load_fork() -> Callable[[], int]:
    if not sys.platform.startswith("linux"):
        return getattr(os, "fork", _no_fork)
    import ctypes

    return ctypes.PyDLL(None).fork  # PyDLL: does not release the GIL, which the child then holds too


_fork = _load_fork()
_users_mask: set[signal.Signals | int] | None = None
_reseeders: list[_Handler] = []
_has_forked = False
_calls_handlers = False


def prepare_generators() -> list[str]:
    """Give the random generators a new state in each child from now on; return warnings about others. Call it before ``gc.freeze``."""
    global _reseeders
    found = reseed_generators()
    _reseeders = found.reseeders
    return found.warnings


def fork() -> int:
    """Fork this process; return 0 in the child, which must call ``after_fork``.

    Raises:
        OSError: The system cannot create another process.
    """
    global _has_forked, _fork, _calls_handlers
    if not _has_forked:
        _has_forked = True
        if _fork is not os.fork and len(os.listdir("/proc/self/task")) > 1:
            _fork = os.fork
        _calls_handlers = _fork is not os.fork and bool(_handlers)
    if not _calls_handlers:
        pid = _fork()
    else:
        _call(before for before, _, _ in reversed(_handlers))
        pid = _fork()
        if pid:
            _call(in_parent for _, in_parent, _ in _handlers)
    return os.fork() if pid < 0 else pid  # os.fork fails in the same way, and raises with the reason


def after_fork() -> None:
    """Give the child's random generators a new state, and call the handlers of the user's modules."""
    for reseed in _reseeders:
        reseed()
    if _calls_handlers:
        _call(in_child for _, _, in_child in _handlers)


def block_stopping_signals() -> None:
    """Block the stop signals in this process and its children.

    A sender that signals all processes of a worker at once (systemd, scancel) addresses the supervisor, which stops the others.
    """
    global _users_mask
    if hasattr(signal, "pthread_sigmask"):
        _users_mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)


def unblock_inherited_signals() -> None:
    """Unblock the stop signals in a process that was started by one in which they are blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING_SIGNALS)


def unblock_signals() -> None:
    """Restore the signal mask in a process that runs user code and was forked from one in which the stop signals are blocked."""
    if _users_mask is not None:
        _signal.pthread_sigmask(signal.SIG_SETMASK, _users_mask)  # without the layer that converts the result to enums


def die_of_interrupt() -> None:
    """End this process by SIGINT, unhandled, so that its parent sees the reason."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
