PRAGMA application_id = 1952869492;
PRAGMA user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE attempt (
    key             INTEGER PRIMARY KEY,
    worker_id       INTEGER NOT NULL,
    outcome         INTEGER NOT NULL,
    started_at      REAL NOT NULL,
    elapsed_seconds REAL NOT NULL,
    result          TEXT,
    error           TEXT,
    output          TEXT,
    exit_code       INTEGER,
    peak_memory_mib REAL
) STRICT;
INSERT INTO "attempt" VALUES(1001,1,0,1003.0,0.5,'{"y": 1}',NULL,NULL,NULL,NULL);
INSERT INTO "attempt" VALUES(2001,1,1,1003.0,0.5,NULL,'ValueError: no
Traceback',NULL,NULL,NULL);
INSERT INTO "attempt" VALUES(3001,1,1,1003.0,0.5,NULL,'ValueError: no
Traceback',NULL,NULL,NULL);
INSERT INTO "attempt" VALUES(11001,1,0,1003.0,0.5,'{"y": 1}',NULL,NULL,NULL,NULL);
INSERT INTO "attempt" VALUES(12001,1,0,1003.0,0.5,'{"y": 1}',NULL,NULL,NULL,NULL);
CREATE TABLE counter (
    state INTEGER NOT NULL,
    kind  INTEGER NOT NULL,   -- of a failure; 0 otherwise
    n     INTEGER NOT NULL,
    PRIMARY KEY (state, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO "counter" VALUES(1,0,9);
INSERT INTO "counter" VALUES(2,0,2);
INSERT INTO "counter" VALUES(3,0,3);
INSERT INTO "counter" VALUES(4,1,1);
CREATE TABLE duration (
    bucket INTEGER PRIMARY KEY,
    n      INTEGER NOT NULL
) STRICT;
INSERT INTO "duration" VALUES(-36,3);
CREATE TABLE duration_moments (
    n    INTEGER NOT NULL,
    mean REAL NOT NULL,
    m2   REAL NOT NULL,
    low  REAL NOT NULL,
    high REAL NOT NULL
) STRICT;
INSERT INTO "duration_moments" VALUES(3,0.5,0.0,0.5,0.5);
CREATE TABLE event_batch (
    source TEXT NOT NULL,      -- a worker
    number INTEGER NOT NULL,
    PRIMARY KEY (source, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE insertion (
    insertion_id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used again: an inserter that was taken for dead finds its id gone
    source       TEXT NOT NULL,
    process      TEXT NOT NULL,   -- identity of the inserting process: what it left behind when killed is cleared away
    touched_at   REAL NOT NULL,
    first_seq    INTEGER NOT NULL,
    accepted_at  REAL,
    task_count   INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO "insertion" VALUES(1,'tasks.csv','a boot|a namespace|4711|1',1001.0,1,1001.0,10);
INSERT INTO "insertion" VALUES(2,'tasks.csv','a boot|a namespace|4711|1',1005.0,11,1005.0,1);
INSERT INTO "insertion" VALUES(3,'tasks.csv','a boot|a namespace|4711|1',1005.0,12,1005.0,1);
INSERT INTO "insertion" VALUES(4,'tasks.csv','a boot|a namespace|4711|1',1005.0,13,1005.0,1);
INSERT INTO "insertion" VALUES(5,'tasks.csv','a boot|a namespace|4711|1',1005.0,14,1005.0,1);
INSERT INTO "insertion" VALUES(6,'tasks.csv','a boot|a namespace|4711|1',1007.0,15,1007.0,1);
INSERT INTO "insertion" VALUES(7,'tasks.csv','a boot|a namespace|4711|1',1008.0,18,1008.0,0);
INSERT INTO "insertion" VALUES(8,'tasks.csv','a boot|a namespace|4711|1',1009.0,18,NULL,0);
CREATE TABLE job (
    job_id     TEXT NOT NULL,
    project    TEXT NOT NULL,   -- the name of the project that made it: two projects on one ledger are told apart
    created_at REAL NOT NULL
, queue_url TEXT) STRICT;
INSERT INTO "job" VALUES('job','sample',1000.0,NULL);
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
CREATE TABLE pool (
    controller    TEXT,                  -- its process, see processes.identity; NULL for nobody
    seen_at       REAL NOT NULL,         -- when it last said that it is there
    stop_asked_at REAL                   -- when the user wanted all machines ended
) STRICT;
INSERT INTO "pool" VALUES(NULL,0.0,NULL);
CREATE TABLE segment (
    first_seq INTEGER PRIMARY KEY,
    next_seq  INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL
, sent_seq INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "segment" VALUES(1,6,8,0);
INSERT INTO "segment" VALUES(9,10,10,0);
INSERT INTO "segment" VALUES(11,12,11,0);
INSERT INTO "segment" VALUES(12,13,12,0);
INSERT INTO "segment" VALUES(13,13,13,0);
INSERT INTO "segment" VALUES(14,14,14,0);
INSERT INTO "segment" VALUES(15,15,17,0);
CREATE TABLE sender (
    process    TEXT NOT NULL,
    touched_at REAL NOT NULL
) STRICT;
CREATE TABLE state (
    seq          INTEGER PRIMARY KEY,
    state        INTEGER NOT NULL,
    attempt      INTEGER NOT NULL DEFAULT 0,   -- the number of its latest attempt
    worker_id    INTEGER,                      -- who holds the lease, while RUNNING
    available_at REAL NOT NULL DEFAULT 0,      -- when it may be leased, while PENDING
    tries_from   INTEGER NOT NULL DEFAULT 0,   -- attempts up to this one no longer count (somebody said retry)
    kind         INTEGER NOT NULL DEFAULT 0    -- how the deciding attempt ended, while FAILED
) STRICT;
INSERT INTO "state" VALUES(1,3,1,NULL,0.0,0,0);
INSERT INTO "state" VALUES(2,4,1,NULL,0.0,0,1);
INSERT INTO "state" VALUES(3,1,1,NULL,1013.5,0,0);
INSERT INTO "state" VALUES(4,1,0,NULL,0.0,0,0);
INSERT INTO "state" VALUES(5,2,1,1,0.0,0,0);
INSERT INTO "state" VALUES(9,2,1,1,0.0,0,0);
INSERT INTO "state" VALUES(11,3,1,NULL,0.0,0,0);
INSERT INTO "state" VALUES(12,3,1,NULL,0.0,0,0);
CREATE TABLE tally (
    name TEXT PRIMARY KEY,
    n    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "tally" VALUES('inserted',15);
INSERT INTO "tally" VALUES('retries',1);
CREATE TABLE task (
    seq  INTEGER PRIMARY KEY,
    id   TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;
INSERT INTO "task" VALUES(1,'t1','{"x": "t1"}');
INSERT INTO "task" VALUES(2,'t2','{"x": "t2"}');
INSERT INTO "task" VALUES(3,'t3','{"x": "t3"}');
INSERT INTO "task" VALUES(4,'t4','{"x": "t4"}');
INSERT INTO "task" VALUES(5,'t5','{"x": "t5"}');
INSERT INTO "task" VALUES(6,'t6','{"x": "t6"}');
INSERT INTO "task" VALUES(7,'t7','{"x": "t7"}');
INSERT INTO "task" VALUES(8,'t8','{"x": "t8"}');
INSERT INTO "task" VALUES(9,'t9','{"x": "t9"}');
INSERT INTO "task" VALUES(10,'t10','{"x": "t10"}');
INSERT INTO "task" VALUES(11,'single1','{"x": "single1"}');
INSERT INTO "task" VALUES(12,'single2','{"x": "single2"}');
INSERT INTO "task" VALUES(13,'single3','{"x": "single3"}');
INSERT INTO "task" VALUES(14,'single4','{"x": "single4"}');
INSERT INTO "task" VALUES(17,'killed','{"x": "killed"}');
INSERT INTO "task" VALUES(18,'never1','{"x": "never1"}');
INSERT INTO "task" VALUES(19,'never2','{"x": "never2"}');
INSERT INTO "task" VALUES(20,'never3','{"x": "never3"}');
CREATE TABLE task_id (
    id  TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "task_id" VALUES('killed',17);
INSERT INTO "task_id" VALUES('single1',11);
INSERT INTO "task_id" VALUES('single2',12);
INSERT INTO "task_id" VALUES('single3',13);
INSERT INTO "task_id" VALUES('single4',14);
INSERT INTO "task_id" VALUES('t1',1);
INSERT INTO "task_id" VALUES('t10',10);
INSERT INTO "task_id" VALUES('t2',2);
INSERT INTO "task_id" VALUES('t3',3);
INSERT INTO "task_id" VALUES('t4',4);
INSERT INTO "task_id" VALUES('t5',5);
INSERT INTO "task_id" VALUES('t6',6);
INSERT INTO "task_id" VALUES('t7',7);
INSERT INTO "task_id" VALUES('t8',8);
INSERT INTO "task_id" VALUES('t9',9);
CREATE TABLE throughput (
    second INTEGER PRIMARY KEY,
    n      INTEGER NOT NULL
) STRICT;
INSERT INTO "throughput" VALUES(1003,2);
INSERT INTO "throughput" VALUES(1006,2);
CREATE TABLE unsent (
    seq INTEGER PRIMARY KEY
) STRICT;
CREATE TABLE worker (
    worker_id   INTEGER PRIMARY KEY,
    hostname    TEXT NOT NULL,
    pid         INTEGER NOT NULL,
    process     TEXT NOT NULL,      -- identity of the process: boot, pid namespace, pid, start time
    slots       INTEGER NOT NULL,
    started_at  REAL NOT NULL,
    seen_at     REAL NOT NULL,
    lease_until REAL NOT NULL,      -- one lease for all that the worker holds
    ended_at    REAL,
    end_reason  TEXT                -- 'stopped', 'preempted' (a termination notice), 'lost' (its lease ran out) or 'released'
, machine TEXT, busy_seconds REAL NOT NULL DEFAULT 0) STRICT;
INSERT INTO "worker" VALUES(1,'host',4712,'a boot|a namespace|4712|1',2,1002.0,1006.0,1036.0,NULL,NULL,NULL,2.5);
CREATE INDEX state_pending ON state (available_at, seq) WHERE state = 1;
CREATE INDEX state_running ON state (worker_id) WHERE state = 2;
CREATE INDEX state_failed ON state (kind, seq) WHERE state = 4;
CREATE INDEX state_killed ON state (seq) WHERE state = 5;
CREATE INDEX worker_alive ON worker (lease_until) WHERE ended_at IS NULL;
CREATE INDEX machine_open ON machine (token) WHERE ended_at IS NULL;
CREATE INDEX machine_instance ON machine (instance_id) WHERE instance_id IS NOT NULL;
CREATE INDEX worker_machine ON worker (machine) WHERE machine IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('insertion',8);
COMMIT;
