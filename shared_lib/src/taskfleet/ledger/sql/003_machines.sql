-- Every machine that was ever requested for this job; the row is written before the machine is launched.
CREATE TABLE machine (
    token            TEXT PRIMARY KEY,   -- the machine's name
    order_token      TEXT NOT NULL,      -- the name of its launch request: a request that is sent twice launches its machines once
    instance_id      TEXT,               -- the provider's name for it, once known
    provider         TEXT NOT NULL,
    zone             TEXT NOT NULL,
    instance_type    TEXT NOT NULL,
    market           TEXT NOT NULL,
    usd_per_hour     REAL NOT NULL,      -- maximum, with its boot disk
    slots            INTEGER NOT NULL,
    cpus             INTEGER NOT NULL,
    lifetime_seconds REAL NOT NULL,      -- it terminates itself this long after its start
    ordered_at       REAL NOT NULL,      -- when the launch was requested; costs count from here
    started_at       REAL,               -- when the provider confirmed the launch
    ready_at         REAL,               -- the first heartbeat of a worker on it
    ended_at         REAL,               -- when it was missing from the provider's list; costs end here
    end_reason       TEXT,
    ending_since     REAL                -- when its termination was last requested
) STRICT;
CREATE INDEX machine_open ON machine (token) WHERE ended_at IS NULL;
CREATE INDEX machine_instance ON machine (instance_id) WHERE instance_id IS NOT NULL;

-- The machine on which a worker runs, by the provider's name; NULL for a worker that a user started.
ALTER TABLE worker ADD COLUMN machine TEXT;
CREATE INDEX worker_machine ON worker (machine) WHERE machine IS NOT NULL;
-- Total duration of its attempts that were neither interrupted nor lost.
ALTER TABLE worker ADD COLUMN busy_seconds REAL NOT NULL DEFAULT 0;

-- The pool's controller, in one row.
CREATE TABLE pool (
    controller    TEXT,                  -- its process, see processes.identity; NULL if there is none
    seen_at       REAL NOT NULL,         -- its last heartbeat
    stop_asked_at REAL                   -- when the user asked to terminate all machines
) STRICT;
INSERT INTO pool (controller, seen_at, stop_asked_at) VALUES (NULL, 0, NULL);
