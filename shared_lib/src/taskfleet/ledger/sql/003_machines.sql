-- Every machine that was ever to be started for this job; the row is there before the machine is.
CREATE TABLE machine (
    token            TEXT PRIMARY KEY,   -- the machine's name
    order_token      TEXT NOT NULL,      -- what makes an order of several machines that is given twice one order
    instance_id      TEXT,               -- the provider's name for it, once it has said so
    provider         TEXT NOT NULL,
    zone             TEXT NOT NULL,
    instance_type    TEXT NOT NULL,
    market           TEXT NOT NULL,
    usd_per_hour     REAL NOT NULL,      -- with its boot disk, at most
    slots            INTEGER NOT NULL,
    cpus             INTEGER NOT NULL,
    lifetime_seconds REAL NOT NULL,      -- it ends itself so long after its start
    ordered_at       REAL NOT NULL,      -- costs count from here
    started_at       REAL,               -- when the provider said that it is being made
    ready_at         REAL,               -- when a worker on it was first heard
    ended_at         REAL,               -- when it was seen to be gone; costs end here
    end_reason       TEXT,
    ending_since     REAL                -- when it was last asked to end
) STRICT;
CREATE INDEX machine_open ON machine (token) WHERE ended_at IS NULL;
CREATE INDEX machine_instance ON machine (instance_id) WHERE instance_id IS NOT NULL;

-- Which machine a worker runs on, by the provider's name for it; NULL for one that was started by hand.
ALTER TABLE worker ADD COLUMN machine TEXT;
CREATE INDEX worker_machine ON worker (machine) WHERE machine IS NOT NULL;
-- Time in attempts that came to an end of their own, of all its slots together.
ALTER TABLE worker ADD COLUMN busy_seconds REAL NOT NULL DEFAULT 0;

-- Who looks after the pool, in one row.
CREATE TABLE pool (
    controller    TEXT,                  -- its process, see processes.identity; NULL for nobody
    seen_at       REAL NOT NULL,         -- when it last said that it is there
    stop_asked_at REAL                   -- when the user wanted all machines ended
) STRICT;
INSERT INTO pool (controller, seen_at, stop_asked_at) VALUES (NULL, 0, NULL);
