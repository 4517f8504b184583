-- What workers have to know while they work, in one row; the version is raised with each change of it and of kill.
CREATE TABLE control (
    version  INTEGER NOT NULL,
    document TEXT NOT NULL     -- JSON: {"paused": true}
) STRICT;
INSERT INTO control (version, document) VALUES (0, '{}');

-- Cancelled tasks that a worker may still run: those that were running; with a service queue also those whose message was sent.
CREATE TABLE kill (
    seq INTEGER PRIMARY KEY
) STRICT;
