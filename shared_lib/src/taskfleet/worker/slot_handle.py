"""One slot, seen from the supervisor."""

import socket
import time
from collections.abc import Iterable, Sequence
from operator import attrgetter

from taskfleet.tasks import AttemptKey, Finished, Lease
from taskfleet.worker.messages import Message, Recall, Run, pack, unpack
from taskfleet.worker.wire import Channel

_key_of = attrgetter("seq", "attempt")  # as ``key``, in half the time


class SlotHandle:
    """The channel to a slot, and the tasks it was handed and has not reported."""

    def __init__(self, sock: socket.socket) -> None:
        self._channel = Channel(sock)
        self._assigned: dict[AttemptKey, Lease] = {}
        self._disowned: set[AttemptKey] = set()
        """Those of them whose lease was lost."""
        self._alone: AttemptKey | None = None
        """What was handed to it to be tried alone, if something was."""
        self._is_recalled = False
        self._moved_at = time.monotonic()
        self._pid: int | None = None

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._channel.fileno()

    @property
    def pid(self) -> int | None:
        """Its process id, once it has reported that."""
        return self._pid

    @property
    def moved_at(self) -> float:
        """When it last ended a task, or was given one while it had none, on the monotonic clock."""
        return self._moved_at

    @property
    def wants_write(self) -> bool:
        """Whether something is left to send."""
        return self._channel.wants_write

    @property
    def load(self) -> int:
        """How many tasks it has."""
        return len(self._assigned)

    @property
    def leases(self) -> list[Lease]:
        """The tasks it has."""
        return list(self._assigned.values())

    def send(self, message: Message) -> None:
        """Say something to it, now or later (see ``flush``)."""
        self._channel.send(pack(message))

    def flush(self) -> None:
        """Send what can be sent."""
        self._channel.flush()

    def receive(self) -> list[Message]:
        """Return what it has said.

        Raises:
            EOFError: It has died, and nothing it said is left.
        """
        return [unpack(values) for values in self._channel.receive()]

    def note_start(self, pid: int) -> None:
        """Take note that it is there."""
        self._pid = pid

    @property
    def is_reserved(self) -> bool:
        """Whether it has a task that is tried alone."""
        return self._alone in self._assigned

    def assign_alone(self, lease: Lease) -> None:
        """Hand it a task that is to have no company: should the slot die, it was this one."""
        self._alone = lease.key
        self.assign([lease])

    def assign(self, leases: Sequence[Lease]) -> None:
        """Hand it tasks."""
        if not self._assigned:
            self._moved_at = time.monotonic()
        self._assigned.update((lease.key, lease) for lease in leases)
        self.send(Run(leases=leases))

    def recall(self) -> None:
        """Have it hand back what it has not begun."""
        self._is_recalled = True
        self.send(Recall())

    def recall_surplus(self) -> None:
        """Have it hand back what waits behind a task, if something does and it was not asked already."""
        if len(self._assigned) > 1 and not self._is_recalled:
            self.recall()

    def finish(self, finished: Sequence[Finished]) -> list[Lease]:
        """Take note that attempts have ended; return the leases they were made under."""
        self._moved_at = time.monotonic()
        keys = list(map(_key_of, finished))
        self._disowned.difference_update(keys)
        return list(map(self._assigned.pop, keys))

    def take_back(self, keys: Iterable[AttemptKey]) -> list[Lease]:
        """Take note that it has handed tasks back; return those that are still this worker's."""
        self._is_recalled = False
        returned = [self._assigned.pop(key) for key in keys if key in self._assigned]
        return self._owned(returned)

    def take_all(self) -> list[Lease]:
        """Take note that it is gone; return what it had and is still this worker's."""
        return self._owned(self.leases)

    def _owned(self, leases: list[Lease]) -> list[Lease]:
        if not self._disowned:
            return leases
        owned = [lease for lease in leases if lease.key not in self._disowned]
        self._disowned.difference_update(lease.key for lease in leases)
        return owned

    def disown(self) -> None:
        """The lease of all it has was lost: what it has not begun is not to be given back."""
        self._disowned.update(self._assigned)
        self.recall()

    def close(self) -> None:
        """Close the channel; the slot ends, and all below it."""
        self._channel.close()
