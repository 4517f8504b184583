-- Where the tasks travel; NULL for the queue embedded here.
ALTER TABLE job ADD COLUMN queue_url TEXT;

-- With a queue at a service: up to which task of the segment messages were sent. These tasks have no row in state, and next_seq stays,
-- until an event tells of them.
ALTER TABLE segment ADD COLUMN sent_seq INTEGER NOT NULL DEFAULT 0;

-- PENDING tasks that were put back by hand and still have to be sent.
CREATE TABLE unsent (
    seq INTEGER PRIMARY KEY
) STRICT;

-- Who is sending, so that two do not send the same.
CREATE TABLE sender (
    process    TEXT NOT NULL,
    touched_at REAL NOT NULL
) STRICT;

-- Batches of events that were recorded: each counts once however often it is delivered.
CREATE TABLE event_batch (
    source TEXT NOT NULL,      -- a worker
    number INTEGER NOT NULL,
    PRIMARY KEY (source, number)
) STRICT, WITHOUT ROWID;
