-- Times are seconds since the epoch; durations are seconds. States and outcomes are the numbers of tasks.State and tasks.Outcome.

CREATE TABLE job (
    job_id     TEXT NOT NULL,
    project    TEXT NOT NULL,   -- the name of the project that made it, to detect two projects on one ledger
    created_at REAL NOT NULL
) STRICT;

-- Runs of insert_tasks, one at a time. The tasks of a run (from first_seq on) are ignored until accepted_at is set, so an insertion is
-- complete or has no effect.
CREATE TABLE insertion (
    insertion_id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never reused: an inserter that counted as dead finds its id missing
    source       TEXT NOT NULL,
    process      TEXT NOT NULL,   -- identity of the inserting process: if it is dead, its rows are deleted
    touched_at   REAL NOT NULL,
    first_seq    INTEGER NOT NULL,
    accepted_at  REAL,
    task_count   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The definition of a task: written once, never changed.
CREATE TABLE task (
    seq  INTEGER PRIMARY KEY,
    id   TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;

-- Finds a task by its id and keeps ids unique. A separate table, so that an insertion can append its tasks and then enter their ids in
-- sorted batches: half the cost of updating an index row by row.
CREATE TABLE task_id (
    id  TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Runs of consecutive accepted tasks. Those from next_seq on have never been leased: they are PENDING without a row in state, so accepting
-- ten million tasks is one row, and leasing some advances a cursor.
CREATE TABLE segment (
    first_seq INTEGER PRIMARY KEY,
    next_seq  INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL
) STRICT;

-- The state of a task, from its first lease on.
CREATE TABLE state (
    seq          INTEGER PRIMARY KEY,
    state        INTEGER NOT NULL,
    attempt      INTEGER NOT NULL DEFAULT 0,   -- the number of its latest attempt
    worker_id    INTEGER,                      -- the worker that holds the lease, while RUNNING
    available_at REAL NOT NULL DEFAULT 0,      -- when it is due, while PENDING
    tries_from   INTEGER NOT NULL DEFAULT 0,   -- attempts up to this one no longer count (poe retry)
    kind         INTEGER NOT NULL DEFAULT 0    -- the outcome of the last attempt, while FAILED
) STRICT;
CREATE INDEX state_pending ON state (available_at, seq) WHERE state = 1;
CREATE INDEX state_running ON state (worker_id) WHERE state = 2;
CREATE INDEX state_failed ON state (kind, seq) WHERE state = 4;
CREATE INDEX state_killed ON state (seq) WHERE state = 5;

-- Every attempt that ended, under the key seq * 1000 + attempt.
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

CREATE TABLE worker (
    worker_id   INTEGER PRIMARY KEY,
    hostname    TEXT NOT NULL,
    pid         INTEGER NOT NULL,
    process     TEXT NOT NULL,      -- identity of the process: boot, pid namespace, pid, start time
    slots       INTEGER NOT NULL,
    started_at  REAL NOT NULL,
    seen_at     REAL NOT NULL,
    lease_until REAL NOT NULL,      -- one lease for all tasks of the worker
    ended_at    REAL,
    end_reason  TEXT                -- a value of tasks.WorkerEnd
) STRICT;
CREATE INDEX worker_alive ON worker (lease_until) WHERE ended_at IS NULL;

-- Counts, updated with each change: a status costs the same with a thousand tasks and with ten million.
CREATE TABLE counter (
    state INTEGER NOT NULL,
    kind  INTEGER NOT NULL,   -- of a failure; 0 otherwise
    n     INTEGER NOT NULL,
    PRIMARY KEY (state, kind)
) STRICT, WITHOUT ROWID;

-- Totals: inserted, duplicates, lost, retries.
CREATE TABLE tally (
    name TEXT PRIMARY KEY,
    n    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Durations of successful attempts: exact moments, and a histogram with buckets of 2 % for the percentiles.
CREATE TABLE duration (
    bucket INTEGER PRIMARY KEY,
    n      INTEGER NOT NULL
) STRICT;
CREATE TABLE duration_moments (
    n    INTEGER NOT NULL,
    mean REAL NOT NULL,
    m2   REAL NOT NULL,
    low  REAL NOT NULL,
    high REAL NOT NULL
) STRICT;

-- Number of tasks that ended (SUCCEEDED or FAILED), by second: for the rate and the graph over time.
CREATE TABLE throughput (
    second INTEGER PRIMARY KEY,
    n      INTEGER NOT NULL
) STRICT;
