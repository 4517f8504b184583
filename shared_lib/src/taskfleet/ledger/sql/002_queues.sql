-- The service queue; NULL for the queue embedded in the ledger.
ALTER TABLE job ADD COLUMN queue_url TEXT;

-- With a service queue: the last task of the segment that was sent. Sent tasks have no row in state, and next_seq stays, until an event
-- about them is recorded.
ALTER TABLE segment ADD COLUMN sent_seq INTEGER NOT NULL DEFAULT 0;

-- PENDING tasks with a row in state that have to be sent.
CREATE TABLE unsent (
    seq INTEGER PRIMARY KEY
) STRICT;

-- The process that is sending: only one does at a time.
CREATE TABLE sender (
    process    TEXT NOT NULL,
    touched_at REAL NOT NULL
) STRICT;

-- Recorded batches of events: a batch that is delivered again has no effect.
CREATE TABLE event_batch (
    source TEXT NOT NULL,      -- a worker
    number INTEGER NOT NULL,
    PRIMARY KEY (source, number)
) STRICT, WITHOUT ROWID;
