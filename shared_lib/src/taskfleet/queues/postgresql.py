"""Queues in a PostgreSQL database: ``PostgresqlTransport``.

All queues of a database share one table of messages. A message is handed out once ``ready_at`` has come; a lease is nothing but a later
``ready_at``, so a dead receiver's messages are back without anybody doing anything. Only the server's clock is asked. A receipt is the
message's id and the number of its delivery, so what a former holder says has no effect.

What it costs: a message is written three times (sent, leased, deleted) and leaves two dead rows, which autovacuum takes away at once (the
table's settings say so). Somebody's transaction that stays open for hours anywhere in the database keeps them, and receiving slows down.
"""

import json
import math
import os
import random
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, ClassVar, LiteralString, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from taskfleet.errors import QueueError, UnreachableError
from taskfleet.queues.postgresql_faults import Fault, check, shown
from taskfleet.queues.transport import Message, Outgoing, Size

#: How much goes into one statement.
BATCH_MESSAGES = 1000
BATCH_BYTES = 4 << 20
RECEIPTS = 5000
SWEPT_MESSAGES = 200_000

#: Pauses between looks into an empty queue: they grow while nothing comes, also from one call to the next.
SHORTEST_WAIT_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 1.0

#: Pauses between tries of what has failed.
SHORTEST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 5.0

CONNECT_SECONDS = 10

#: Finds a server's machine dead that just does not answer any more; what the user's address says comes first.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}

#: The SQLSTATE of a standby; another connection may lead to the primary.
READ_ONLY = "25006"

#: Any number; those who create tables take turns under it.
_LOCK = 0x74666C74

_TABLES: tuple[LiteralString, ...] = (
    """
    CREATE TABLE IF NOT EXISTS taskfleet_queues (
        id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        name text PRIMARY KEY,
        tags jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # No foreign key: each sender would lock its queue's row. No fillfactor: a lease changes an indexed column, so rows never stay in place.
    # Bodies are bytes, so that any text passes whatever the database's encoding.
    """
    CREATE TABLE IF NOT EXISTS taskfleet_messages (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        queue_id bigint NOT NULL,
        ready_at timestamptz NOT NULL,
        deliveries integer NOT NULL DEFAULT 0,
        body bytea NOT NULL
    ) WITH (
        autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_threshold = 50000, autovacuum_vacuum_insert_scale_factor = 0.1,
        autovacuum_analyze_threshold = 10000, autovacuum_analyze_scale_factor = 0.1,
        toast.autovacuum_vacuum_threshold = 5000, toast.autovacuum_vacuum_scale_factor = 0.02,
        toast.autovacuum_vacuum_cost_delay = 0
    )
    """,
    "CREATE INDEX IF NOT EXISTS taskfleet_messages_ready ON taskfleet_messages (queue_id, ready_at)",
)

_HAS_TABLES: LiteralString = """
    SELECT to_regclass('taskfleet_queues') IS NOT NULL AND to_regclass('taskfleet_messages_ready') IS NOT NULL
"""

_SEND: LiteralString = """
    WITH queue AS MATERIALIZED (SELECT id FROM taskfleet_queues WHERE name = %(name)s), sent AS (
        INSERT INTO taskfleet_messages (queue_id, ready_at, body)
        SELECT queue.id, now() + make_interval(secs => delay_seconds), body
        FROM queue, unnest(%(bodies)b::bytea[], %(delays)b::float8[]) AS message (body, delay_seconds)
    )
    SELECT id FROM queue
"""

# The array is what makes the ids be looked up once, and in the index, whatever the planner thinks of the table.
_RECEIVE: LiteralString = """
    WITH queue AS MATERIALIZED (SELECT id FROM taskfleet_queues WHERE name = %(name)s), taken AS (
        UPDATE taskfleet_messages
        SET ready_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s), deliveries = deliveries + 1
        WHERE id = ANY (ARRAY(
            SELECT id FROM taskfleet_messages WHERE queue_id = (SELECT id FROM queue) AND ready_at <= now()
            ORDER BY queue_id, ready_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
        ))
        RETURNING id, deliveries, body
    )
    SELECT taken.id, taken.deliveries, taken.body, CASE WHEN taken.id IS NULL THEN (
        SELECT extract(epoch FROM min(ready_at) - clock_timestamp())::float8
        FROM taskfleet_messages WHERE queue_id = (SELECT id FROM queue) AND ready_at > now()
    ) END
    FROM queue LEFT JOIN taken ON true
"""

_EXTEND: LiteralString = """
    WITH queue AS MATERIALIZED (SELECT id FROM taskfleet_queues WHERE name = %(name)s), extended AS (
        UPDATE taskfleet_messages AS message SET ready_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
        FROM unnest(%(ids)b::bigint[], %(deliveries)b::integer[]) AS held (id, deliveries)
        WHERE message.id = held.id AND message.deliveries = held.deliveries AND message.queue_id = (SELECT id FROM queue)
        RETURNING message.id, message.deliveries
    )
    SELECT extended.id, extended.deliveries FROM queue LEFT JOIN extended ON true
"""

_ACKNOWLEDGE: LiteralString = """
    WITH queue AS MATERIALIZED (SELECT id FROM taskfleet_queues WHERE name = %(name)s), dropped AS (
        DELETE FROM taskfleet_messages AS message
        USING unnest(%(ids)b::bigint[], %(deliveries)b::integer[]) AS held (id, deliveries)
        WHERE message.id = held.id AND message.deliveries = held.deliveries AND message.queue_id = (SELECT id FROM queue)
    )
    SELECT id FROM queue
"""

# What is ready is counted in the index alone, as far as vacuum has been there.
_SIZE: LiteralString = """
    SELECT (SELECT count(*) FROM taskfleet_messages WHERE queue_id = queue.id AND ready_at <= now()), later.leased, later.delayed
    FROM taskfleet_queues AS queue, LATERAL (
        SELECT count(*) FILTER (WHERE deliveries > 0) AS leased, count(*) FILTER (WHERE deliveries = 0) AS delayed
        FROM taskfleet_messages WHERE queue_id = queue.id AND ready_at > now()
    ) AS later
    WHERE name = %(name)s
"""

# Steps from one queue's first message to the next queue's, so it costs the same however many messages there are.
_ORPHANED: LiteralString = """
    WITH RECURSIVE present (queue_id) AS (
        SELECT min(queue_id) FROM taskfleet_messages
        UNION ALL
        SELECT (SELECT min(queue_id) FROM taskfleet_messages WHERE queue_id > present.queue_id)
        FROM present WHERE present.queue_id IS NOT NULL
    )
    SELECT queue_id FROM present
    WHERE queue_id IS NOT NULL AND NOT EXISTS (SELECT FROM taskfleet_queues WHERE id = present.queue_id)
"""

# A stretch of the index; each goes on where the one before ended, lest it steps over all that was deleted so far.
_SWEEP: LiteralString = """
    WITH stretch AS MATERIALIZED (
        SELECT coalesce((
            SELECT ready_at FROM taskfleet_messages WHERE queue_id = %(queue_id)s AND ready_at >= %(since)s::timestamptz
            ORDER BY queue_id, ready_at OFFSET %(most)s LIMIT 1
        ), 'infinity') AS until
    ), swept AS (
        DELETE FROM taskfleet_messages
        WHERE queue_id = %(queue_id)s AND ready_at >= %(since)s::timestamptz AND ready_at <= (SELECT until FROM stretch)
    )
    SELECT until::text FROM stretch
"""

T = TypeVar("T")


class PostgresqlTransport:
    """A queue in a PostgreSQL database; see ``Transport``.

    The address is what ``psql`` takes, with nothing of ours in it (so ``psql "$QUEUE_URL"`` shows the tables); what it leaves out comes
    from the PG* environment variables and ``~/.pgpass``. The queue's name is given apart: one job has several queues at one address.

    Nothing is kept in a session (no LISTEN, no prepared statement), so pgbouncer may pool transactions. A receiver that waits looks again
    after pauses of 20 ms to 1 s, or when the next message is due. A statement that gets no answer is given up once patience ends, so
    ``size`` of very many messages wants some of it.

    A lease that has ended without anybody taking the message can still be extended, and the message acknowledged.

    Args:
        address: ``postgresql://[USER[:PASSWORD]@][HOST[:PORT]]/DATABASE[?PARAMETERS]``.
        name: The queue's name, any text.
        patience_seconds: For how long a verb tries again while the server does not answer or is overloaded.

    Raises:
        QueueError: The address is not one, or the name is empty.
    """

    #: Our own limit, that of SQS, so that a job which fits one service fits the other, and a batch fits in memory; PostgreSQL's is 1 GB.
    most_message_bytes: ClassVar[int] = 1 << 20
    #: Our own limit, a year, so that a wrong unit is noticed.
    longest_delay_seconds: ClassVar[float] = 365 * 86400.0
    longest_lease_seconds: ClassVar[float] = math.inf
    counts_exactly: ClassVar[bool] = True
    fences_receipts: ClassVar[bool] = True
    knows_lost_leases: ClassVar[bool] = True

    def __init__(self, address: str, name: str, *, patience_seconds: float = 60.0) -> None:
        check(address)
        if not name or "\0" in name:
            raise QueueError(f"{name!r} cannot be the name of a queue: give it at least one character, and no NUL.")
        self.address = address
        self.name = name
        self._label = f"Queue {name!r} at {shown(address)}"
        self._patience_seconds = patience_seconds
        self._wait_seconds = SHORTEST_WAIT_SECONDS
        self._defaults = self._missing_parameters()
        self._connection: _Connection | None = None

    def create(self, *, tags: dict[str, str]) -> None:
        """See ``Transport.create``; the first to create it sets the tags."""

        def create(connection: psycopg.Connection[Any]) -> None:
            with connection.transaction():
                # Looked up first, since even IF NOT EXISTS wants the right to create.
                if connection.execute(_HAS_TABLES).fetchone() != (True,):
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                    for statement in _TABLES:
                        connection.execute(statement)
                connection.execute(
                    "INSERT INTO taskfleet_queues (name, tags) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING",
                    (self.name, json.dumps(tags)),
                )

        self._persist(create)

    def exists(self) -> bool:
        """See ``Transport.exists``."""
        return bool(self._rows_if_tables("SELECT 1 FROM taskfleet_queues WHERE name = %(name)s"))

    def delete(self) -> None:
        """See ``Transport.delete``."""
        self._rows_if_tables("DELETE FROM taskfleet_queues WHERE name = %(name)s RETURNING id")
        self._sweep()

    def purge(self) -> None:
        """See ``Transport.purge``. The queue gets a new number, so everything in it is gone at once; then the rows are deleted."""
        self._require(self._rows("UPDATE taskfleet_queues SET id = DEFAULT WHERE name = %(name)s RETURNING id"))
        self._sweep()

    def send(self, messages: Sequence[Outgoing]) -> None:
        """See ``Transport.send``. A batch is sent whole or not at all; messages that cannot be sent are found before any is."""
        bodies = [self._encoded(message) for message in messages]
        delays = [float(message.delay_seconds) for message in messages]
        for batch in _batches(bodies):
            self._require(self._rows(_SEND, bodies=bodies[batch], delays=delays[batch]))

    def receive(self, most: int, *, wait_seconds: float, lease_seconds: float) -> list[Message]:
        """See ``Transport.receive``. An answer that is lost on the way leaves its messages leased until their lease ends."""
        deadline = time.monotonic() + wait_seconds
        while most > 0:
            rows = self._require(self._rows(_RECEIVE, most=most, lease_seconds=float(lease_seconds)))
            if rows[0][0] is not None:
                self._wait_seconds = SHORTEST_WAIT_SECONDS
                return [
                    Message(body.decode("utf-8"), f"{number}-{deliveries}", deliveries)
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
        for part in _parts(receipts):
            rows = self._rows(_EXTEND, **self._held(part), lease_seconds=float(lease_seconds))
            lost -= {f"{number}-{deliveries}" for number, deliveries in self._require(rows)}
        return lost

    def acknowledge(self, receipts: Sequence[str]) -> None:
        """See ``Transport.acknowledge``. A receipt whose message was handed out again has no effect."""
        for part in _parts(receipts):
            self._require(self._rows(_ACKNOWLEDGE, **self._held(part)))

    def size(self) -> Size:
        """See ``Transport.size``. It counts, which takes about a second for ten million messages that vacuum has seen."""
        [(ready, leased, delayed)] = self._require(self._rows(_SIZE))
        return Size(ready=ready, leased=leased, delayed=delayed, is_exact=True)

    def close(self) -> None:
        """See ``Transport.close``; the next verb connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _sweep(self) -> None:
        """Delete the messages of queues that are gone, also those that somebody did not get to, or sent at the last moment."""
        for (queue_id,) in self._rows_if_tables(_ORPHANED):
            since = "-infinity"
            while since != "infinity":
                [(since,)] = self._rows(_SWEEP, queue_id=queue_id, since=since, most=SWEPT_MESSAGES)

    def _encoded(self, message: Outgoing) -> bytes:
        try:
            body = message.body.encode("utf-8")
        except UnicodeEncodeError as error:
            raise QueueError(
                f"{self._label}: nothing was sent, a message is not valid Unicode ({error.reason})."
            ) from None
        if len(body) > self.most_message_bytes:
            raise QueueError(
                f"{self._label}: nothing was sent, a message has {len(body):,} bytes and the most is {self.most_message_bytes:,}. "
                "Put large data into files and send their names."
            )
        if not 0 <= message.delay_seconds <= self.longest_delay_seconds:
            raise QueueError(
                f"{self._label}: nothing was sent, a message's delay is {message.delay_seconds} s and has to be "
                f"from 0 to {self.longest_delay_seconds:.0f} s."
            )
        return body

    def _held(self, receipts: Sequence[str]) -> dict[str, list[int]]:
        pairs = [re.fullmatch(r"([0-9]{1,18})-([0-9]{1,9})", receipt) for receipt in receipts]
        if None in pairs:
            raise QueueError(f"{self._label} never gave a receipt like {receipts[pairs.index(None)]!r}.")
        numbers = sorted(
            {(int(pair[1]), int(pair[2])) for pair in pairs if pair}
        )  # one order for all, lest two deadlock
        return {"ids": [number for number, _ in numbers], "deliveries": [deliveries for _, deliveries in numbers]}

    def _require(self, rows: list[T]) -> list[T]:
        """Every statement gives at least one row if its queue is there."""
        if not rows:
            raise QueueError(
                f"{self._label} does not exist. Insert tasks first (poe insert_tasks), make it again (poe release), or check QUEUE_URL and "
                "JOB_ID."
            )
        return rows

    def _rows_if_tables(self, statement: LiteralString) -> list[tuple[Any, ...]]:
        if self._rows("SELECT 1 WHERE to_regclass('taskfleet_messages_ready') IS NOT NULL"):
            return self._rows(statement)
        return []

    def _rows(self, statement: LiteralString, **parameters: object) -> list[tuple[Any, ...]]:
        values = {"name": self.name, **parameters}
        return self._persist(lambda connection: connection.execute(statement, values, binary=True).fetchall())

    def _persist(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Do something that may be done again until it succeeds, patience ends or it is clear that it never will."""
        deadline = time.monotonic() + self._patience_seconds
        pause = SHORTEST_PAUSE_SECONDS
        while True:
            try:
                return work(self._connected(deadline))
            except psycopg.Error as error:
                fault = self._explain(error)
                if fault.kind is not UnreachableError:
                    raise fault.error(self._label) from error
                if time.monotonic() + pause >= deadline:
                    raise fault.error(f"{self._label} could not be reached for {self._patience_seconds:g} s") from error
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _connected(self, deadline: float) -> "_Connection":
        if self._connection is None:
            left = max(math.ceil(deadline - time.monotonic()), 1)
            timeout = {"connect_timeout": min(CONNECT_SECONDS, left)} if "connect_timeout" in self._defaults else {}
            self._connection = _Connection.connect(
                self.address, autocommit=True, prepare_threshold=None, **{**self._defaults, **timeout}
            )
        self._connection.deadline = deadline
        return self._connection

    def _explain(self, error: psycopg.Error) -> Fault:
        """Put an error into words; a connection that is of no more use is closed."""
        if error.sqlstate is None:
            self.close()
            return Fault.of_connection(str(error))
        if self._connection is None or self._connection.closed or error.sqlstate == READ_ONLY:
            self.close()
        return Fault.of_statement(error.sqlstate, error.diag.message_primary or str(error))

    def _missing_parameters(self) -> dict[str, Any]:
        """Give the parameters of a connection that neither the address nor the environment has."""
        given: dict[str, Any] = {}
        reason = ""
        try:
            given = conninfo_to_dict(self.address)
        except psycopg.Error as error:  # whose text may hold what was taken for something else, even the password
            unknown = re.search(r'invalid URI query parameter: "(\w+)"', str(error))
            reason = f"libpq knows no parameter {unknown[1]!r}" if unknown else "libpq cannot read it"
        if not re.fullmatch(r"[0-9,]*", str(given.get("port", ""))):
            reason = "its port is not a number"
        if reason:
            raise QueueError(
                f"The address {shown(self.address)} is not valid: {reason}. It looks like "
                "postgresql://USER@HOST:PORT/DATABASE, special characters as in %40."
            )
        defaults: dict[str, Any] = {"fallback_application_name": "taskfleet", **KEEPALIVES}
        if "PGCONNECT_TIMEOUT" not in os.environ:
            defaults["connect_timeout"] = CONNECT_SECONDS
        return {name: value for name, value in defaults.items() if name not in given} | {"client_encoding": "utf-8"}


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is given up when the server does not answer by a deadline, of ``time.monotonic()``."""

    deadline = math.inf

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **keywords: Any) -> T:
        """Wait for what psycopg does, which looks up several times a second."""
        return super().wait(self._until_deadline(gen), *args, **keywords)

    def _until_deadline(self, steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            awaited = next(steps)
            while True:
                ready = yield awaited
                if not ready and time.monotonic() > self.deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the server gives no answer")
                awaited = steps.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def _batches(bodies: Sequence[bytes]) -> Iterator[slice]:
    """Divide messages into batches of limited number and size."""
    start = size = 0
    for index, body in enumerate(bodies):
        if index - start == BATCH_MESSAGES or (index > start and size + len(body) > BATCH_BYTES):
            yield slice(start, index)
            start, size = index, 0
        size += len(body)
    if start < len(bodies):
        yield slice(start, len(bodies))


def _parts(receipts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (receipts[start : start + RECEIPTS] for start in range(0, len(receipts), RECEIPTS))
