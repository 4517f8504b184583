"""Wait for descriptors by ``select.poll``, or by ``select.select`` on Windows."""

import select
from typing import Protocol

#: The event masks of ``select.poll``, with fallbacks for systems without it.
POLLIN: int = getattr(select, "POLLIN", 1)
POLLOUT: int = getattr(select, "POLLOUT", 4)


class Poll(Protocol):
    """The used part of the interface of ``select.poll``."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Add a descriptor."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Change the event mask of a descriptor."""

    def unregister(self, fd: int, /) -> None:
        """Remove a descriptor."""

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Wait up to ``timeout`` milliseconds; return the ready descriptors and their events."""


def make_poll() -> Poll:
    """Return a new poll object."""
    return select.poll() if hasattr(select, "poll") else SelectPoll()


class SelectPoll:
    """``select.poll`` implemented by ``select.select``, for Windows."""

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
