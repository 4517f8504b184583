"""Waiting for descriptors: ``select.poll``, or what does its work where there is none."""

import select
from typing import Protocol

#: As ``select.poll`` wants them, where there is one.
POLLIN: int = getattr(select, "POLLIN", 1)
POLLOUT: int = getattr(select, "POLLOUT", 4)


class Poll(Protocol):
    """What is used of ``select.poll``."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Wait for a descriptor too."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Wait for something else of it."""

    def unregister(self, fd: int, /) -> None:
        """Wait for it no more."""

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Wait, at most this many milliseconds; return what is ready, and for what."""


def make_poll() -> Poll:
    """Return a new one."""
    return select.poll() if hasattr(select, "poll") else SelectPoll()


class SelectPoll:
    """Does what ``select.poll`` does by ``select.select``: for Windows."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}

    def register(self, fd: int, eventmask: int, /) -> None:
        """See ``select.poll``."""
        self._masks[fd] = eventmask

    def modify(self, fd: int, eventmask: int, /) -> None:
        """See ``select.poll``."""
        self._masks[fd] = eventmask

    def unregister(self, fd: int, /) -> None:
        """See ``select.poll``."""
        del self._masks[fd]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """See ``select.poll``."""
        readers = [fd for fd, mask in self._masks.items() if mask & POLLIN]
        writers = [fd for fd, mask in self._masks.items() if mask & POLLOUT]
        readable, writable, _ = select.select(readers, writers, [], None if timeout is None else timeout / 1000)
        ready = dict.fromkeys(readable, POLLIN)
        for fd in writable:
            ready[fd] = ready.get(fd, 0) | POLLOUT
        return list(ready.items())
