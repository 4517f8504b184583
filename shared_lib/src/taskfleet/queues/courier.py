"""The threads between a worker and a queue at a service, so that a slow service does not keep the worker waiting.

The receiver fetches messages while some are wanted. The sender tells events, sends tasks back and drops messages, in that order, so that
whatever dies when, a task is somewhere; and it extends the leases of the messages that are held. Each has transports of its own.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from taskfleet.errors import ProviderError, UnreachableError
from taskfleet.messages import events
from taskfleet.messages import tasks as envelopes
from taskfleet.messages.events import Batch, Worker
from taskfleet.messages.tasks import Envelope, Parcel
from taskfleet.queues.transport import Message, Outgoing, Size, Transport
from taskfleet.tasks import Finished

#: How long one request waits for a message; a worker that ends may have to wait for it.
POLL_SECONDS = 2.0
SHORT_POLL_SECONDS = 0.5
#: Events are told, and messages dropped, so often.
FLUSH_SECONDS = 1.0
#: ... or when so many attempts have ended.
FLUSH_AT = 1000
TROUBLE_PAUSE_SECONDS = 1.0
#: Messages of events; more would not be cheaper.
EVENT_BYTES = 200_000
MOST_BYTES_OF_TASKS = 200_000
#: A worker that has nothing to tell gives a sign of life so often.
HEARTBEAT_SECONDS = 60.0
#: The part of a lease after which it is renewed.
RENEW_AFTER = 1 / 3
#: How often a queue that gave nothing is asked for its size.
SIZE_SECONDS = 2.0


@dataclass(slots=True)
class Held:
    """A message that this worker holds."""

    receipt: str
    ledger: str
    renew_at: float
    """On the monotonic clock."""
    ends_at: float
    """When the service lets it be held no longer."""
    parcels: dict[tuple[int, int], Parcel] = field(default_factory=dict)
    """Its tasks that have not come to an end, by (seq, attempt)."""
    claim: str = ""
    """What it was handed over under, while nobody holds it."""
    is_lost: bool = False


@dataclass(slots=True)
class Errand:
    """What the sender is to do; all of it, or nothing is forgotten."""

    parcels: list[tuple[str, float, bool, Parcel]] = field(default_factory=list)
    """Tasks to send back: the ledger they are of, the delay, whether it goes alone, the task."""
    envelopes: list[Envelope] = field(default_factory=list)
    leased: dict[tuple[int, int], str] = field(default_factory=dict)
    """What has been leased and not told of, and the ledger it is of."""
    returned: list[tuple[str, int, int]] = field(default_factory=list)
    ended: list[tuple[str, Finished, float | None]] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    """Of messages to drop."""
    end_reason: str = ""

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return any(
            (self.parcels, self.envelopes, self.leased, self.returned, self.ended, self.receipts, self.end_reason)
        )


class Courier:
    """Both threads, and what they share with the worker's own."""

    def __init__(
        self,
        open_tasks: Callable[[], Transport],
        open_events: Callable[[], Transport],
        *,
        job_id: str,
        worker: Worker,
        lease_seconds: float,
    ) -> None:
        self.lock = threading.Condition()
        """Guards everything that is public here."""
        self.errand = Errand()
        self.inbox: deque[tuple[Held, Message]] = deque()
        self.held: dict[str, Held] = {}
        """By receipt."""
        self.failure: ProviderError | None = None
        """What trying again does not mend."""
        self.said: list[str] = []
        """What the user should know."""
        self.received_at = time.monotonic()
        self.size: Size | None = None
        """What the queue said it has when it gave nothing; None if it gave something since, or was sent something."""
        self.is_sending = False
        """Whether tasks are on their way back to the queue."""
        self.most_per_message = 1
        self.is_at_work = False
        """Whether the worker has asked for tasks; before, it gives no sign of life: it may turn out that it cannot work."""
        self._wanted = 0
        self._may_die = False
        self._times_sent = 0
        self._open_tasks = open_tasks
        self._open_events = open_events
        self._job_id = job_id
        self._worker = worker
        self._lease_seconds = lease_seconds
        self._number = 0
        self._told_at = -HEARTBEAT_SECONDS
        self._is_telling = False
        self._is_stopping = False
        self._is_ending = False
        self._in_trouble: set[str] = set()
        self._receiver = threading.Thread(target=self._guarded, args=(self._receive,), name="receiver", daemon=True)
        self._sender = threading.Thread(target=self._guarded, args=(self._send,), name="sender", daemon=True)
        self._receiver.start()
        self._sender.start()

    def want(self, messages: int, *, may_die: bool = False) -> None:
        """Fetch up to so many messages from now on.

        Args:
            messages: So many.
            may_die: Have no request wait at the service: it would be given messages even after this process has died.
        """
        with self.lock:
            self._may_die = may_die
            if messages != self._wanted:
                self._wanted = messages
                self.lock.notify_all()

    def has_told(self) -> bool:
        """Whether all that has ended is known to the service, and what it came with is dropped there."""
        with self.lock:
            return not (self._is_telling or self.errand.ended)

    def stop_receiving(self) -> None:
        """Fetch nothing any more; waits for a request that is under way, whose messages would be lost to all for a while."""
        with self.lock:
            self._is_stopping = True
            self.lock.notify_all()
        self._receiver.join(POLL_SECONDS + 15)

    def end(self, seconds: float) -> bool:
        """Do what is left to do and end; False if that takes too long."""
        with self.lock:
            self._is_ending = True
            self.lock.notify_all()
        self._sender.join(seconds)
        return not self._sender.is_alive()

    # --- the receiver ---

    def _receive(self) -> None:
        transport = self._open_tasks()
        asked_at = 0.0
        while True:
            with self.lock:
                while not self._wanted and not self._is_stopping:
                    self.lock.wait()
                if self._is_stopping:
                    break
                wanted = self._wanted
                wait_seconds = 0.0 if self._may_die else POLL_SECONDS
                times_sent = self._times_sent
            began_at = time.monotonic()
            try:
                messages = transport.receive(wanted, wait_seconds=wait_seconds, lease_seconds=self._lease_seconds)
                size = None
                if not messages and (transport.counts_exactly or time.monotonic() - asked_at > SIZE_SECONDS):
                    asked_at = time.monotonic()
                    size = transport.size()
            except UnreachableError as error:
                self._trouble("receiving", error)
                continue
            self._no_trouble("receiving")
            with self.lock:
                for message in messages:
                    held = Held(
                        message.receipt,
                        "",
                        began_at + self._lease_seconds * RENEW_AFTER,
                        began_at + transport.longest_lease_seconds,
                    )
                    self.held[message.receipt] = held
                    self.inbox.append((held, message))
                self._wanted = max(0, self._wanted - len(messages))
                if messages:
                    self.received_at, self.size = time.monotonic(), None
                elif size is not None and times_sent == self._times_sent and not self.is_sending:
                    self.size = size
                if not messages and not wait_seconds and not self._is_stopping:
                    self.lock.wait(SHORT_POLL_SECONDS)
        transport.close()

    # --- the sender ---

    def _send(self) -> None:
        tasks, told = self._open_tasks(), self._open_events()
        errand = Errand()
        while True:
            try:
                self._renew(tasks)
                if not errand:
                    errand = self._take_errand()
                if errand or self._is_silent():
                    self._run(errand, tasks, told)
                    with self.lock:
                        self._is_telling = False
                elif self._is_ending:
                    break
                self._no_trouble("sending")
            except UnreachableError as error:
                self._trouble("sending", error)
        tasks.close()
        told.close()

    def _take_errand(self) -> Errand:
        """Wait until there is something to do, or some lease to renew."""
        with self.lock:
            if not self._is_ending and len(self.errand.ended) < FLUSH_AT:
                self.lock.wait(min(FLUSH_SECONDS, max(0.05, self._lease_seconds * RENEW_AFTER / 2)))
            errand, self.errand = self.errand, Errand()
            self.is_sending = bool(errand.parcels or errand.envelopes)
            self._is_telling = bool(errand.ended)
            return errand

    def _run(self, errand: Errand, tasks: Transport, told: Transport) -> None:
        """Do all of an errand; what was done is taken out of it, so that it can be gone on with."""
        outgoing = [Outgoing(envelopes.pack(one), delay) for one, delay in self._packed(errand, tasks)]
        if outgoing:
            tasks.send(outgoing)
            errand.parcels.clear()
            errand.envelopes.clear()
            with self.lock:
                self.is_sending, self.size, self.received_at = False, None, time.monotonic()
                self._times_sent += 1
        if errand.leased or errand.returned or errand.ended or errand.end_reason or self._is_silent():
            for ledger in self._ledgers(errand):
                self._tell(errand, ledger, told)
            errand.end_reason = ""
        if errand.receipts:
            tasks.acknowledge(errand.receipts)
            errand.receipts.clear()

    def _packed(self, errand: Errand, tasks: Transport) -> Iterable[tuple[Envelope, float]]:
        for one in errand.envelopes:
            yield one, 0.0
        shares: dict[tuple[str, float, bool], list[Parcel]] = {}
        for ledger, delay, is_alone, parcel in errand.parcels:
            shares.setdefault((ledger, delay, is_alone), []).append(parcel)
        for (ledger, delay, is_alone), parcels in shares.items():
            first = min(delay, tasks.longest_delay_seconds)
            not_before = time.time() + delay if delay > first else 0.0
            for chunk in envelopes.group(
                parcels, most=1 if is_alone else self.most_per_message, most_bytes=MOST_BYTES_OF_TASKS
            ):
                yield Envelope(job_id=self._job_id, ledger=ledger, parcels=chunk, not_before=not_before), first

    def _is_silent(self) -> bool:
        """Whether it is time for a sign of life."""
        return self.is_at_work and time.monotonic() - self._told_at > HEARTBEAT_SECONDS

    def _ledgers(self, errand: Errand) -> list[str]:
        found = [*errand.leased.values(), *(one[0] for one in chain(errand.returned, errand.ended))]
        return list(dict.fromkeys(found)) or [""]

    def _tell(self, errand: Errand, ledger: str, told: Transport) -> None:
        whole = Batch(
            job_id=self._job_id,
            ledger=ledger,
            worker=self._worker,
            number=self._number,
            told_at=time.time(),
            end_reason=errand.end_reason,
            leased=[key for key, one in errand.leased.items() if one == ledger],
            returned=[(seq, attempt) for one, seq, attempt in errand.returned if one == ledger],
        )
        ended = [(finished, retry) for one, finished, retry in errand.ended if one == ledger]
        batches = [whole]
        size = 0
        for finished, retry in ended:
            more = _size(finished)
            if size and size + more > EVENT_BYTES:
                batches.append(replace(whole, leased=[], returned=[], ended=[]))
                size = 0
            if more > told.most_message_bytes - 4096:
                finished = finished._replace(output=None, error=(finished.error or "")[:10_000] or None)
            batches[-1].ended.append((finished, retry))
            size += more
        numbered = [replace(one, number=self._number + index) for index, one in enumerate(batches)]
        told.send([Outgoing(events.pack(one)) for one in numbered])
        self._number += len(numbered)
        self._told_at = time.monotonic()
        errand.leased = {key: one for key, one in errand.leased.items() if one != ledger}
        errand.returned = [one for one in errand.returned if one[0] != ledger]
        errand.ended = [one for one in errand.ended if one[0] != ledger]

    def _renew(self, tasks: Transport) -> None:
        """Extend the leases that are a third over."""
        now = time.monotonic()
        with self.lock:
            due = [held for held in self.held.values() if held.renew_at <= now and not held.claim]
        if not due:
            return
        lost = tasks.extend([held.receipt for held in due], self._lease_seconds)
        with self.lock:
            for held in due:
                held.renew_at = now + self._lease_seconds * RENEW_AFTER
                if held.receipt in lost:
                    held.is_lost = True
                    self.held.pop(held.receipt, None)

    # --- both ---

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ProviderError as error:
            with self.lock:
                self.failure = self.failure or error

    def _trouble(self, what: str, error: ProviderError) -> None:
        """Say what is wrong, once, and wait a little."""
        with self.lock:
            if not self._in_trouble:
                self.said.append(f"{error} Trying again; what runs goes on.")
            self._in_trouble.add(what)
            if not (self._is_ending or self._is_stopping):
                self.lock.wait(TROUBLE_PAUSE_SECONDS)

    def _no_trouble(self, what: str) -> None:
        with self.lock:
            if what in self._in_trouble:
                self._in_trouble.discard(what)
                if not self._in_trouble:
                    self.said.append("The queue answers again.")


def _size(finished: Finished) -> int:
    """Give at most how many bytes an attempt takes of a message of events."""
    texts = [text for text in (finished.result, finished.error, finished.output) if text]
    return 200 + sum(len(text) * (2 if text.isascii() else 6) for text in texts)
