-- Waiting tasks that are in the message of another one, their only parent. A worker that does the parent may send them.
CREATE TABLE chained (
    seq     INTEGER PRIMARY KEY,
    parent  INTEGER NOT NULL,
    is_sent INTEGER NOT NULL DEFAULT 0           -- 1: a worker has reported that it sent the task
) STRICT;
