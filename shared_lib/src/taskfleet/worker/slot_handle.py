"""The supervisor's handle of one slot."""

import socket
import time
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter

from taskfleet.tasks import AttemptKey, Finished, Lease
from taskfleet.worker.messages import Cancel, Message, Recall, Run, pack, unpack
from taskfleet.worker.wire import Channel

_key_of = attrgetter("seq", "attempt")  # the same as ``key``, in half the time


class SlotHandle:
    """The channel to a slot, and its assigned tasks without a result."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock)
        self._assigned: dict[AttemptKey, Lease] = {}
        self._lost: set[AttemptKey] = set()
        """The assigned attempts whose lease was lost."""
        self._alone: AttemptKey | None = None
        """The attempt that was assigned alone, if any."""
        self._width = 1
        """How many slots that one takes."""
        self._is_recalled = False
        self._last_progress_at = time.monotonic()
        self._pid: int | None = None

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._channel.fileno()

    @property
    def pid(self) -> int | None:
        """Its process id, once it has reported it."""
        return self._pid

    @property
    def last_progress_at(self) -> float:
        """When it last finished a task, or got one while it had none, in monotonic time."""
        return self._last_progress_at

    @property
    def wants_write(self) -> bool:
        """Whether there is unsent data."""
        return self._channel.wants_write

    @property
    def load(self) -> int:
        """The number of assigned tasks."""
        return len(self._assigned)

    @property
    def leases(self) -> list[Lease]:
        """The leases of the assigned tasks."""
        return list(self._assigned.values())

    def send(self, message: Message) -> None:
        """Send a message; keep what cannot be sent yet for ``flush``."""
        self._channel.send(pack(message))

    def flush(self) -> None:
        """Send as much as possible."""
        self._channel.flush()

    def receive(self) -> list[Message]:
        """Return the messages that have arrived.

        Raises:
            EOFError: The slot has died, and no message is left.
        """
        return [unpack(values) for values in self._channel.receive()]

    def set_pid(self, pid: int) -> None:
        """Set its process id, when it has started."""
        self._pid = pid

    @property
    def is_reserved(self) -> bool:
        """Whether it runs a task alone."""
        return self._alone in self._assigned

    @property
    def width(self) -> int:
        """How many slots its tasks take: several for a task that starts several processes."""
        return self._width if self.is_reserved else min(1, self.load)

    def assign_alone(self, lease: Lease, width: int = 1) -> None:
        """Assign a task that may be the cause if the slot dies, or that takes several slots."""
        self._alone, self._width = lease.key, width
        self.assign([lease])

    def assign(self, leases: Sequence[Lease]) -> None:
        """Assign tasks."""
        if not self._assigned:
            self._last_progress_at = time.monotonic()
        self._assigned.update((lease.key, lease) for lease in leases)
        self.send(Run(leases=leases))

    def recall(self) -> None:
        """Have it return the tasks that it has not started."""
        self._is_recalled = True
        self.send(Recall())

    def recall_queued(self) -> None:
        """Have it return the tasks queued behind the running one, unless there are none or it was already asked."""
        if len(self._assigned) > 1 and not self._is_recalled:
            self.recall()

    def cancel(self, keys: Collection[AttemptKey]) -> None:
        """Have it kill those of its tasks that have these keys."""
        assigned = [key for key in self._assigned if key in keys]
        if assigned:
            self.send(Cancel(keys=assigned))

    def finish(self, finished: Sequence[Finished]) -> list[Lease]:
        """Remove finished attempts; return their leases."""
        self._last_progress_at = time.monotonic()
        keys = list(map(_key_of, finished))
        self._lost.difference_update(keys)
        return list(map(self._assigned.pop, keys))

    def take_back(self, keys: Iterable[AttemptKey]) -> list[Lease]:
        """Remove returned attempts; return their leases, except for lost ones."""
        self._is_recalled = False
        returned = [self._assigned.pop(key) for key in keys if key in self._assigned]
        return self._still_leased(returned)

    def take_all(self) -> list[Lease]:
        """Return the leases of all its tasks, except for lost ones, after it has died."""
        return self._still_leased(self.leases)

    def _still_leased(self, leases: list[Lease]) -> list[Lease]:
        if not self._lost:
            return leases
        owned = [lease for lease in leases if lease.key not in self._lost]
        self._lost.difference_update(lease.key for lease in leases)
        return owned

    def mark_leases_lost(self) -> None:
        """Mark the leases of all its tasks as lost, and recall the tasks that have not started; these are not given back to the queue."""
        self._lost.update(self._assigned)
        self.recall()

    def close(self) -> None:
        """Close the channel, which ends the slot and its children."""
        self._channel.close()
