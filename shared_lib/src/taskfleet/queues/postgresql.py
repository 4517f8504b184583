"""Queues in a PostgreSQL database: ``PostgresqlTransport``.

All queues of a database share one table of messages. A message can be received once ``ready_at`` has passed. A lease is only a later
``ready_at``, so the messages of a dead receiver become available again without any action. Only the server's clock is used. A receipt is
the message's id and the number of its delivery, so calls of a former holder have no effect.

Cost: each message is written three times (send, lease, delete) and leaves two dead rows, which autovacuum removes at once (the table's
settings ensure that). A transaction that stays open for hours anywhere in the database keeps them, and receiving slows down.
"""

import json
import logging
import math
import os
import random
import re
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, LiteralString, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from taskfleet.clouds.retrying import Outages, Retries
from taskfleet.errors import QueueError
from taskfleet.invocation import poe
from taskfleet.messages.grouping import chunks, grouped
from taskfleet.queues import postgresql_statements as statements
from taskfleet.queues.postgresql_errors import NO_ANSWER, Explanation, check, redact_address
from taskfleet.queues.transport import Message, Outgoing, Size, text_of

logger = logging.getLogger(__name__)

#: Limits of one statement.
BATCH_MESSAGES = 1000
BATCH_BYTES = 4 << 20
RECEIPTS = 5000
SWEPT_MESSAGES = 200_000

#: Pauses between polls of an empty queue; they grow while nothing arrives, also between calls.
SHORTEST_WAIT_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 1.0

CONNECT_SECONDS = 10
#: When a statement without an answer is abandoned; the time doubles for its repetitions.
ANSWER_SECONDS = 10.0
LONGEST_ANSWER_SECONDS = 60.0

#: Detect a dead server that does not reset the connection; parameters of the user's address take precedence.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}

#: The SQLSTATE of a standby; a new connection may lead to the primary.
READ_ONLY = "25006"

T = TypeVar("T")


class PostgresqlTransport:
    """A queue in a PostgreSQL database; see ``Transport``.

    The address is what ``psql`` takes, without additions (so ``psql "$QUEUE_URL"`` shows the tables). Missing parts come from the PG*
    environment variables and ``~/.pgpass``. The queue's name is separate: one job has several queues at one address.

    Nothing is kept in a session (no LISTEN, no prepared statements), so pgbouncer may pool transactions. A waiting receiver polls after
    pauses of 20 ms to 1 s, or when the next message is due. A statement without an answer is abandoned after ten seconds, its repetition
    after twenty, and so on.

    A lease that has ended, but whose message was not received again, can still be extended, and the message acknowledged.

    Args:
        address: ``postgresql://[USER[:PASSWORD]@][HOST[:PORT]]/DATABASE[?PARAMETERS]``.
        name: The queue's name, any text.
        patience_seconds: How long a call is repeated while the server is unavailable or overloaded.
        outages: Observes the calls.

    Raises:
        QueueError: The address is not valid, or the name is empty.
    """

    #: The same as for SQS, so that a job fits either service, and a batch fits in memory; PostgreSQL allows 1 GB.
    most_message_bytes: ClassVar[int] = 1 << 20
    #: A year, so that a wrong unit is noticed.
    longest_delay_seconds: ClassVar[float] = 365 * 86400.0
    longest_lease_seconds: ClassVar[float] = math.inf
    counts_exactly: ClassVar[bool] = True
    fences_receipts: ClassVar[bool] = True
    purge_seconds: ClassVar[float] = 0.0
    knows_lost_leases: ClassVar[bool] = True

    def __init__(
        self, address: str, name: str, *, patience_seconds: float = 60.0, outages: Outages | None = None
    ) -> None:
        check(address)
        if not name or "\0" in name:
            raise QueueError(f"{name!r} is not a valid queue name: it must have at least one character, and no NUL.")
        self.address = address
        self.name = name
        self._label = f"Queue {name!r} at {redact_address(address)}"
        self._retries = Retries(patience_seconds, outages)
        self._answer_seconds = min(ANSWER_SECONDS, patience_seconds)
        self._slow: dict[str, float] = {}
        """By operation, the time limit of the next statement, if one was abandoned."""
        self._wait_seconds = SHORTEST_WAIT_SECONDS
        self._defaults = self._missing_parameters()
        self._connection: Connection | None = None

    def create(self, *, tags: dict[str, str]) -> None:
        """See ``Transport.create``; an existing queue keeps its tags."""

        def create(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                # Check first, because even IF NOT EXISTS requires the permission to create.
                if connection.execute(statements.HAS_TABLES).fetchone() != (True,):
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (statements.LOCK,))
                    for table in statements.TABLES:
                        connection.execute(table)
                connection.execute(
                    "INSERT INTO taskfleet_queues (name, tags) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING",
                    (self.name, json.dumps(tags)),
                )

        self._retried("create", create)

    def exists(self) -> bool:
        """See ``Transport.exists``."""
        return bool(self._rows_if_tables("SELECT 1 FROM taskfleet_queues WHERE name = %(name)s"))

    def delete(self) -> None:
        """See ``Transport.delete``."""
        self._rows_if_tables("DELETE FROM taskfleet_queues WHERE name = %(name)s RETURNING id")
        self._sweep()

    def purge(self) -> None:
        """See ``Transport.purge``. The queue gets a new number, which hides all its messages at once; then the rows are deleted."""
        self._require(self._rows("UPDATE taskfleet_queues SET id = DEFAULT WHERE name = %(name)s RETURNING id"))
        self._sweep()

    def send(self, messages: Sequence[Outgoing]) -> None:
        """See ``Transport.send``. A batch is sent completely or not at all; invalid messages are detected before anything is sent."""
        encoded = [(self._encoded(message), float(message.delay_seconds)) for message in messages]
        for batch in grouped(encoded, most=BATCH_MESSAGES, most_size=BATCH_BYTES, size_of=lambda one: len(one[0])):
            bodies, delays = zip(*batch, strict=True)
            self._require(self._rows(statements.SEND, bodies=list(bodies), delays=list(delays)))

    def receive(self, most: int, *, wait_seconds: float, lease_seconds: float) -> list[Message]:
        """See ``Transport.receive``. If the answer is lost, its messages stay leased until their lease ends."""
        deadline = time.monotonic() + wait_seconds
        while most > 0:
            limits = {"most": most, "most_bytes": self.most_message_bytes + 1}
            rows = self._require(self._rows(statements.RECEIVE, **limits, lease_seconds=float(lease_seconds)))
            if rows[0][0] is not None:
                self._wait_seconds = SHORTEST_WAIT_SECONDS
                return [
                    Message(text_of(body, self.most_message_bytes), f"{number}-{deliveries}", deliveries)
                    for number, deliveries, body, _ in rows
                ]
            left = deadline - time.monotonic()
            if left <= 0:
                break
            due_seconds = math.inf if rows[0][3] is None else rows[0][3]
            pause = min(self._wait_seconds * random.uniform(0.7, 1.3), max(due_seconds, SHORTEST_WAIT_SECONDS))
            self._wait_seconds = min(self._wait_seconds * 1.5, LONGEST_WAIT_SECONDS)
            time.sleep(min(pause, left))
        return []

    def extend(self, receipts: Sequence[str], lease_seconds: float) -> set[str]:
        """See ``Transport.extend``."""
        lost = set(receipts)
        for part in chunks(receipts, RECEIPTS):
            rows = self._rows(statements.EXTEND, **self._held(part), lease_seconds=float(lease_seconds))
            lost -= {f"{number}-{deliveries}" for number, deliveries in self._require(rows)}
        return lost

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """See ``Transport.acknowledge``. The receipt of an earlier delivery has no effect."""
        for part in chunks(receipts, RECEIPTS):
            self._require(self._rows(statements.ACKNOWLEDGE, **self._held(part)))

    def size(self) -> Size:
        """See ``Transport.size``. It counts rows, which takes about a second for ten million vacuumed messages."""
        [(ready, leased, delayed)] = self._require(self._rows(statements.SIZE))
        return Size(ready=ready, leased=leased, delayed=delayed, is_exact=True)

    def read_control(self, known: str) -> tuple[str, str] | None:
        """Return the hash of the job's control document and the document; None if there is none, or if its hash is known."""
        [(found, text)] = self._require(self._rows(statements.READ_CONTROL, known=known))
        return None if text is None else (found, text)

    def write_control(self, text: str | None) -> None:
        """Replace the job's control document; None deletes it."""
        self._require(self._rows(statements.WRITE_CONTROL, text=text))

    def close(self) -> None:
        """See ``Transport.close``; the next call connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _sweep(self) -> None:
        """Delete the messages of deleted queues, including those left by an interrupted sweep or a late sender."""
        for (queue_id,) in self._rows_if_tables(statements.ORPHANED):
            since = "-infinity"
            while since != "infinity":
                [(since,)] = self._rows(statements.SWEEP, queue_id=queue_id, since=since, most=SWEPT_MESSAGES)

    def _encoded(self, message: Outgoing) -> bytes:
        try:
            body = message.body.encode("utf-8")
        except UnicodeEncodeError as error:
            raise QueueError(
                f"{self._label}: nothing was sent, a message is not valid Unicode ({error.reason})."
            ) from None
        if len(body) > self.most_message_bytes:
            raise QueueError(
                f"{self._label}: nothing was sent, a message has {len(body):,} bytes and the maximum is {self.most_message_bytes:,}. "
                "Put large data into files and pass their paths."
            )
        if not 0 <= message.delay_seconds <= self.longest_delay_seconds:
            raise QueueError(
                f"{self._label}: nothing was sent, a message's delay is {message.delay_seconds} s and must be "
                f"between 0 and {self.longest_delay_seconds:.0f} s."
            )
        return body

    def _held(self, receipts: Sequence[str]) -> dict[str, list[int]]:
        pairs = [re.fullmatch(r"([0-9]{1,18})-([0-9]{1,9})", receipt) for receipt in receipts]
        if None in pairs:
            raise QueueError(f"{self._label}: {receipts[pairs.index(None)]!r} is not a valid receipt.")
        numbers = sorted(
            {(int(pair[1]), int(pair[2])) for pair in pairs if pair}
        )  # the same order in all sessions, to avoid deadlocks
        return {"ids": [number for number, _ in numbers], "deliveries": [deliveries for _, deliveries in numbers]}

    def _require(self, rows: list[T]) -> list[T]:
        """Return the rows; every statement returns at least one if its queue exists."""
        if not rows:
            raise QueueError(
                f"{self._label} does not exist. Insert tasks first ({poe('insert_tasks')}), create it again ({poe('release')}), or check "
                "QUEUE_URL and JOB_ID."
            )
        return rows

    def _rows_if_tables(self, statement: LiteralString) -> list[tuple[Any, ...]]:
        if self._rows("SELECT 1 WHERE to_regclass('taskfleet_messages_ready') IS NOT NULL"):
            return self._rows(statement)
        return []

    def _rows(self, statement: LiteralString, **parameters: object) -> list[tuple[Any, ...]]:
        values = {"name": self.name, **parameters}
        return self._retried(
            statement, lambda connection: connection.execute(statement, values, binary=True).fetchall()
        )

    def _retried(self, name: str, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Repeat an idempotent operation until it succeeds, the patience ends or it fails permanently."""

        def attempt() -> T:
            seconds = self._slow.get(name, self._answer_seconds)
            try:
                result = work(self._connected(seconds))
            except psycopg.Error as error:
                if isinstance(error, _NoAnswerError):
                    self._slow[name] = min(2 * seconds, LONGEST_ANSWER_SECONDS)
                raise self._explain(error).error(self._label) from error
            self._slow.pop(name, None)
            return result

        return self._retries.call(name, attempt)

    def _connected(self, answer_seconds: float) -> "Connection":
        """Return a connection on which a statement is abandoned if it is not answered within that time."""
        if self._connection is None:
            seconds = max(min(CONNECT_SECONDS, math.ceil(answer_seconds)), 1)
            timeout = {"connect_timeout": seconds} if "connect_timeout" in self._defaults else {}
            logger.debug("%s: connecting", self._label)
            self._connection = self._open({"autocommit": True, "prepare_threshold": None, **self._defaults, **timeout})
        self._connection.deadline = time.monotonic() + answer_seconds
        return self._connection

    def _open(self, parameters: dict[str, Any]) -> "Connection":
        """Return a new connection."""
        return Connection.connect(self.address, **parameters)

    def _explain(self, error: psycopg.Error) -> Explanation:
        """Explain an error; close the connection if it cannot be used any more."""
        if error.sqlstate is None:
            self.close()
            return NO_ANSWER if isinstance(error, _NoAnswerError) else Explanation.of_connection(str(error))
        if self._connection is None or self._connection.closed or error.sqlstate == READ_ONLY:
            self.close()
        return Explanation.of_statement(error.sqlstate, error.diag.message_primary or str(error))

    def _missing_parameters(self) -> dict[str, Any]:
        """Return the connection parameters that neither the address nor the environment sets."""
        given: dict[str, Any] = {}
        reason = ""
        try:
            given = conninfo_to_dict(self.address)
        except psycopg.Error as error:  # its text may contain any part of the address, even the password
            unknown = re.search(r'invalid URI query parameter: "(\w+)"', str(error))
            reason = f"libpq has no parameter {unknown[1]!r}" if unknown else "libpq cannot parse it"
        if not re.fullmatch(r"[0-9,]*", str(given.get("port", ""))):
            reason = "its port is not a number"
        if reason:
            raise QueueError(
                f"The address {redact_address(self.address)} is not valid: {reason}. Write "
                "postgresql://USER@HOST:PORT/DATABASE, with special characters encoded as in %40."
            )
        defaults: dict[str, Any] = {"fallback_application_name": "taskfleet", **KEEPALIVES}
        if "PGCONNECT_TIMEOUT" not in os.environ:
            defaults["connect_timeout"] = CONNECT_SECONDS
        return {name: value for name, value in defaults.items() if name not in given} | {"client_encoding": "utf-8"}


class _NoAnswerError(psycopg.OperationalError):
    """The server did not answer a statement in time."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is closed if the server does not answer by a deadline, in monotonic time."""

    deadline = math.inf

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **keywords: Any) -> T:
        """Run psycopg's wait loop, which wakes up several times a second, with the deadline."""
        return super().wait(self._until_deadline(gen), *args, **keywords)

    def _until_deadline(self, steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            awaited = next(steps)
            while True:
                ready = yield awaited
                if not ready and time.monotonic() > self.deadline:
                    self.pgconn.finish()
                    raise _NoAnswerError
                awaited = steps.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result
