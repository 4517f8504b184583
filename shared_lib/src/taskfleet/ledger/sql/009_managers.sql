-- Managers: each runs the tasks of its functions with workers of its own. 0 stands for the default one, which also runs the tasks of tables.
CREATE TABLE manager (
    manager_id INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE
) STRICT;
ALTER TABLE function ADD COLUMN manager_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN manager_id INTEGER NOT NULL DEFAULT 0;

-- That of the task's function, so that a worker finds what it may lease without looking at the tasks of others. Tasks in segments have 0.
ALTER TABLE state ADD COLUMN manager_id INTEGER NOT NULL DEFAULT 0;
DROP INDEX state_pending;
CREATE INDEX state_pending ON state (manager_id, available_at, seq) WHERE state = 1;

-- Before, the options of a function of a desipipe script had the name of its manager.
INSERT INTO manager (name) SELECT DISTINCT json_extract(options, '$.manager') FROM function WHERE json_extract(options, '$.manager') <> '';
UPDATE function SET manager_id = coalesce((SELECT manager_id FROM manager WHERE name = json_extract(options, '$.manager')), 0);
UPDATE state SET manager_id = run.manager_id FROM
    (SELECT first_seq, last_seq, function.manager_id FROM function_run JOIN function USING (function_id) WHERE function.manager_id > 0) AS run
    WHERE state.seq BETWEEN run.first_seq AND run.last_seq;
