"""The thread of a worker that processes the outbox, and extends the leases of the held messages."""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator

from taskfleet.code_versions.packages import installed_packages
from taskfleet.errors import UnreachableError
from taskfleet.messages import events, tasks
from taskfleet.messages.events import Batch, EndedAttempt, Worker
from taskfleet.messages.grouping import grouped
from taskfleet.messages.tasks import QueuedTask, TaskMessage
from taskfleet.queues.health import ServiceHealth
from taskfleet.queues.in_flight import RENEW_AFTER, InFlightMessages
from taskfleet.queues.outbox import Delivery, Outbox, Report
from taskfleet.queues.transport import Outgoing, Transport
from taskfleet.tasks import WorkerEnd

logger = logging.getLogger(__name__)

#: How often a delivery is taken from the outbox.
FLUSH_SECONDS = 1.0
OUTAGE_PAUSE_SECONDS = 1.0
#: Maximum size of a message; larger ones would not be cheaper.
MESSAGE_BYTES = 200_000
#: Maximum size of a message of events beyond its largest attempt.
HEADER_BYTES = 8192
#: Of these, how many hashes of code may take; the others are in later messages.
CODES_BYTES = 4000
#: Length of the error of an attempt that is too large for a message, in characters.
SHORTENED_ERROR = 10_000
#: Interval of heartbeats of a worker without events.
HEARTBEAT_SECONDS = 60.0


class Sender:
    """The relay of the outbox: it completes each delivery, step by step, before it takes the next one.

    Args:
        open_tasks: Opens the queue of tasks; called in the thread.
        open_events: Opens the queue of events; called in the thread.
        job_id: The job of the tasks and events.
        worker: The worker, as events name it.
        outbox: Has the deliveries.
        in_flight: Has the messages whose leases are extended.
        health: Records a permanent error.
        lease_seconds: The duration of a renewed lease.
        on_sent: Called after tasks were sent, before the outbox counts them as sent.
    """

    def __init__(
        self,
        open_tasks: Callable[[], Transport],
        open_events: Callable[[], Transport],
        *,
        job_id: str,
        worker: Worker,
        outbox: Outbox,
        in_flight: InFlightMessages,
        health: ServiceHealth,
        lease_seconds: float,
        on_sent: Callable[[], None],
    ) -> None:
        self._open_tasks = open_tasks
        self._open_events = open_events
        self._job_id = job_id
        self._worker = worker
        self._outbox = outbox
        self._in_flight = in_flight
        self._lease_seconds = lease_seconds
        self._on_sent = on_sent
        self._sends_heartbeats = threading.Event()
        self._batches = 0
        self._named: dict[str, dict[str, str]] = {}
        """The hashes of code that were sent to each ledger; a ledger that is here was sent the worker's packages, too."""
        self._reported_at = -HEARTBEAT_SECONDS
        self._thread = health.start_thread("sender", self._send)

    def start_heartbeats(self) -> None:
        """Send heartbeats from now on: a worker that has not requested a task may turn out to be unable to run any."""
        self._sends_heartbeats.set()

    def join(self, seconds: float) -> bool:
        """Wait until the closed outbox is empty; return False if that takes longer."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # --- in the thread ---

    def _send(self) -> None:
        task_queue, event_queue = self._open_tasks(), self._open_events()
        flush_seconds = min(FLUSH_SECONDS, max(0.05, self._lease_seconds * RENEW_AFTER / 2))
        delivery: Delivery | None = Delivery()
        while delivery is not None:
            try:
                self._renew(task_queue)
                delivery = delivery or self._outbox.take(flush_seconds)
                if delivery is not None:
                    self._deliver(delivery, task_queue, event_queue)
            except UnreachableError:
                self._outbox.wait(OUTAGE_PAUSE_SECONDS)
        task_queue.close()
        event_queue.close()

    def _renew(self, task_queue: Transport) -> None:
        now = time.monotonic()
        receipts = self._in_flight.to_renew(now)
        if receipts:
            lost = task_queue.extend(receipts, self._lease_seconds)
            logger.debug("Extended the leases of %d messages, %d of them were lost", len(receipts), len(lost))
            self._in_flight.renewed(receipts, lost, now)

    def _deliver(self, delivery: Delivery, task_queue: Transport, event_queue: Transport) -> None:
        """Complete a delivery. What is done is removed from it, so that it can be continued after an error."""
        if delivery.has_tasks:
            task_queue.send(list(self._outgoing(delivery, task_queue.longest_delay_seconds)))
            delivery.messages.clear()
            delivery.tasks.clear()
            self._on_sent()
            self._outbox.sent()
        for ledger in self._ledgers(delivery):
            self._report(ledger, delivery.report_to(ledger), delivery.end, event_queue)
            del delivery.reports[ledger]
        delivery.end = None
        if delivery.receipts:
            task_queue.acknowledge(delivery.receipts)
            delivery.receipts.clear()
        self._outbox.delivered()

    def _outgoing(self, delivery: Delivery, longest_delay_seconds: float) -> Iterator[Outgoing]:
        """Yield the messages of tasks of a delivery."""
        for message in delivery.messages:
            yield Outgoing(message if isinstance(message, str) else tasks.pack(message))
        shares: dict[tuple[str, float, bool], list[QueuedTask]] = {}
        for one in delivery.tasks:
            shares.setdefault((one.ledger, one.delay_seconds, one.is_isolated), []).append(one.task)
        for (ledger, delay_seconds, is_isolated), share in shares.items():
            first_delay_seconds = min(delay_seconds, longest_delay_seconds)
            not_before = time.time() + delay_seconds if delay_seconds > first_delay_seconds else 0.0
            most = 1 if is_isolated else delivery.tasks_per_message
            for group in tasks.group(share, most=most, most_bytes=MESSAGE_BYTES):
                message = TaskMessage(job_id=self._job_id, ledger=ledger, tasks=group, not_before=not_before)
                yield Outgoing(tasks.pack(message), first_delay_seconds)

    def _ledgers(self, delivery: Delivery) -> list[str]:
        """Return the ledgers to report to; "" stands for any ledger."""
        ledgers = [ledger for ledger, report in delivery.reports.items() if report]
        is_silent = self._sends_heartbeats.is_set() and time.monotonic() - self._reported_at > HEARTBEAT_SECONDS
        return ledgers or ([""] if delivery.end or is_silent else [])

    def _report(self, ledger: str, report: Report, end: WorkerEnd | None, event_queue: Transport) -> None:
        """Send a report, in several messages if necessary."""
        most_bytes = event_queue.most_message_bytes - HEADER_BYTES
        ended = [one if _size(one) <= most_bytes else _shortened(one) for one in report.ended]
        now = time.time()
        codes = self._new_codes(ledger)
        packages = events.fitting_packages(installed_packages()) if ledger and ledger not in self._named else {}
        groups = _groups(ended)
        if packages or not groups:  # which need room
            groups.insert(0, [])
        batches = [
            Batch(
                job_id=self._job_id,
                ledger=ledger,
                worker=self._worker,
                number=self._batches + index,
                reported_at=now,
                end_reason=end,
                leased=[] if index else list(report.leased),
                returned=[] if index else report.returned,
                codes={} if index else codes,
                packages={} if index else packages,
                ended=group,
                continued=[report.continued[one.finished.key] for one in group if one.finished.key in report.continued],
            )
            for index, group in enumerate(groups)
        ]
        event_queue.send([Outgoing(events.pack(batch)) for batch in batches])
        logger.debug("Sent %d messages of events with %d finished attempts", len(batches), len(ended))
        self._batches += len(batches)
        self._named.setdefault(ledger, {}).update(codes)
        self._reported_at = time.monotonic()

    def _new_codes(self, ledger: str) -> dict[str, str]:
        """Return the hashes of code that were not sent to a ledger yet, up to CODES_BYTES; the others follow with later messages."""
        named = self._named.get(ledger, {})
        found: dict[str, str] = {}
        left = CODES_BYTES
        for name, code in self._outbox.codes.items() if ledger else ():
            if named.get(name) != code and events.is_code(name, code):  # a task may have reported it
                size = len(json.dumps([name, code]))
                if size <= left:
                    found[name], left = code, left - size
        return found


def _groups(ended: list[EndedAttempt]) -> list[list[EndedAttempt]]:
    return list(grouped(ended, most=sys.maxsize, most_size=MESSAGE_BYTES, size_of=_size))


def _shortened(ended: EndedAttempt) -> EndedAttempt:
    """Return an attempt without output and with a shortened error."""
    finished = ended.finished
    error = (finished.error or "")[:SHORTENED_ERROR] or None
    return ended._replace(finished=finished._replace(output=None, error=error))


def _size(ended: EndedAttempt) -> int:
    """Return the maximum number of bytes of an attempt in a message of events."""
    finished = ended.finished
    texts = [text for text in (finished.result, finished.error, finished.output) if text]
    return 200 + sum(len(text) * (2 if text.isascii() else 6) for text in texts)
