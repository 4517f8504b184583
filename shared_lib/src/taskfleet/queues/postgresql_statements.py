"""SQL statements of ``PostgresqlTransport``: its tables, and one statement per operation.

Every statement about a queue returns at least one row if the queue exists, so that a missing queue is detected.
"""

from typing import LiteralString

#: The advisory lock for creating the tables, an arbitrary number.
LOCK = 0x74666C74

#: The tables and their index, in order of creation.
TABLES: tuple[LiteralString, ...] = (
    """
    CREATE TABLE IF NOT EXISTS taskfleet_queues (
        id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        name text PRIMARY KEY,
        tags jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # No foreign key: each sender would lock its queue's row. No fillfactor: a lease changes an indexed column, so updates are never HOT.
    # Bodies are bytes, so that any text is accepted whatever the database's encoding.
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

HAS_TABLES: LiteralString = """
    SELECT to_regclass('taskfleet_queues') IS NOT NULL AND to_regclass('taskfleet_messages_ready') IS NOT NULL
"""

SEND: LiteralString = """
    WITH queue AS MATERIALIZED (SELECT id FROM taskfleet_queues WHERE name = %(name)s), sent AS (
        INSERT INTO taskfleet_messages (queue_id, ready_at, body)
        SELECT queue.id, now() + make_interval(secs => delay_seconds), body
        FROM queue, unnest(%(bodies)b::bytea[], %(delays)b::float8[]) AS message (body, delay_seconds)
    )
    SELECT id FROM queue
"""

# The array makes the planner look up the ids once, and in the index, whatever its statistics.
RECEIVE: LiteralString = """
    WITH queue AS MATERIALIZED (SELECT id FROM taskfleet_queues WHERE name = %(name)s), taken AS (
        UPDATE taskfleet_messages
        SET ready_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s), deliveries = deliveries + 1
        WHERE id = ANY (ARRAY(
            SELECT id FROM taskfleet_messages WHERE queue_id = (SELECT id FROM queue) AND ready_at <= now()
            ORDER BY queue_id, ready_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
        ))
        RETURNING id, deliveries, substring(body FROM 1 FOR %(most_bytes)s) AS body  -- anybody may have written it
    )
    SELECT taken.id, taken.deliveries, taken.body, CASE WHEN taken.id IS NULL THEN (
        SELECT extract(epoch FROM min(ready_at) - clock_timestamp())::float8
        FROM taskfleet_messages WHERE queue_id = (SELECT id FROM queue) AND ready_at > now()
    ) END
    FROM queue LEFT JOIN taken ON true
"""

EXTEND: LiteralString = """
    WITH queue AS MATERIALIZED (SELECT id FROM taskfleet_queues WHERE name = %(name)s), extended AS (
        UPDATE taskfleet_messages AS message SET ready_at = clock_timestamp() + make_interval(secs => %(lease_seconds)s)
        FROM unnest(%(ids)b::bigint[], %(deliveries)b::integer[]) AS held (id, deliveries)
        WHERE message.id = held.id AND message.deliveries = held.deliveries AND message.queue_id = (SELECT id FROM queue)
        RETURNING message.id, message.deliveries
    )
    SELECT extended.id, extended.deliveries FROM queue LEFT JOIN extended ON true
"""

ACKNOWLEDGE: LiteralString = """
    WITH queue AS MATERIALIZED (SELECT id FROM taskfleet_queues WHERE name = %(name)s), dropped AS (
        DELETE FROM taskfleet_messages AS message
        USING unnest(%(ids)b::bigint[], %(deliveries)b::integer[]) AS held (id, deliveries)
        WHERE message.id = held.id AND message.deliveries = held.deliveries AND message.queue_id = (SELECT id FROM queue)
    )
    SELECT id FROM queue
"""

# Ready messages are counted by an index-only scan, as far as the pages are vacuumed.
SIZE: LiteralString = """
    SELECT (SELECT count(*) FROM taskfleet_messages WHERE queue_id = queue.id AND ready_at <= now()), later.leased, later.delayed
    FROM taskfleet_queues AS queue, LATERAL (
        SELECT count(*) FILTER (WHERE deliveries > 0) AS leased, count(*) FILTER (WHERE deliveries = 0) AS delayed
        FROM taskfleet_messages WHERE queue_id = queue.id AND ready_at > now()
    ) AS later
    WHERE name = %(name)s
"""

# The document is a string among the tags, so that no other table and no other permission is needed.
READ_CONTROL: LiteralString = """
    SELECT md5(text), CASE WHEN md5(text) <> %(known)s THEN text END
    FROM taskfleet_queues, LATERAL (SELECT tags ->> 'taskfleet-control' AS text) AS control WHERE name = %(name)s
"""
WRITE_CONTROL: LiteralString = """
    UPDATE taskfleet_queues SET tags = CASE WHEN %(text)s::text IS NULL THEN tags - 'taskfleet-control'
        ELSE jsonb_set(tags, '{taskfleet-control}', to_jsonb(%(text)s::text)) END
    WHERE name = %(name)s RETURNING id
"""

# A loose index scan: it steps from queue to queue, so its cost does not depend on the number of messages.
ORPHANED: LiteralString = """
    WITH RECURSIVE present (queue_id) AS (
        SELECT min(queue_id) FROM taskfleet_messages
        UNION ALL
        SELECT (SELECT min(queue_id) FROM taskfleet_messages WHERE queue_id > present.queue_id)
        FROM present WHERE present.queue_id IS NOT NULL
    )
    SELECT queue_id FROM present
    WHERE queue_id IS NOT NULL AND NOT EXISTS (SELECT FROM taskfleet_queues WHERE id = present.queue_id)
"""

# One range of the index per call; each continues at the end of the previous one, so as not to scan deleted rows again.
SWEEP: LiteralString = """
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
