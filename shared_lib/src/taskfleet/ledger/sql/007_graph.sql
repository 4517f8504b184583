-- Graphs: tasks that call other functions than TASK_FUNCTION, and tasks that wait for others, their parents. A waiting task has a row in
-- state with the number of parents that it waits for. Parents are numbered before their children.

-- The functions of graph tasks; 0 stands for TASK_FUNCTION.
CREATE TABLE function (
    function_id INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,            -- module:function; bash:module:function if it returns a command
    options     TEXT NOT NULL DEFAULT '{}'       -- JSON
) STRICT;
ALTER TABLE task ADD COLUMN function_id INTEGER NOT NULL DEFAULT 0;

-- The functions of the tasks again, for runs of consecutive ones: they are counted without reading the tasks.
CREATE TABLE function_run (
    first_seq   INTEGER PRIMARY KEY,
    last_seq    INTEGER NOT NULL,
    function_id INTEGER NOT NULL
) STRICT;
-- Which functions take results of which others. needs: as in edge.
CREATE TABLE function_edge (
    parent_id INTEGER NOT NULL,
    child_id  INTEGER NOT NULL,
    needs     INTEGER NOT NULL,
    PRIMARY KEY (parent_id, child_id, needs)
) STRICT, WITHOUT ROWID;

-- Versions of the code of a function, from 1.
CREATE TABLE function_version (
    function_id INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    code_hash   TEXT NOT NULL,
    parts       TEXT NOT NULL,                   -- JSON: the hash of each function, class and constant that it consists of, by name
    source      TEXT NOT NULL,
    seen_at     REAL NOT NULL,
    PRIMARY KEY (function_id, version)
) STRICT, WITHOUT ROWID;
-- The code that a worker runs.
CREATE TABLE worker_code (
    worker_id   INTEGER NOT NULL,
    function_id INTEGER NOT NULL,
    code_hash   TEXT NOT NULL,
    PRIMARY KEY (worker_id, function_id)
) STRICT, WITHOUT ROWID;

-- The number of parents that a task waits for; kept up to date whatever its state.
ALTER TABLE state ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;
-- While FAILED because of a parent: the task whose failure was the first cause.
ALTER TABLE state ADD COLUMN root_seq INTEGER;
CREATE INDEX state_root ON state (root_seq) WHERE root_seq IS NOT NULL;
-- How an earlier success counts in a task that is to be run again: 0, not; 1, it counts again unless a parent has another result now; 2, the
-- task runs, and its children do not if it has the same result again; 3, it runs with a result that a parent no longer has; 4, its children
-- last saw it fail; 5, it has returned calls and succeeds when these have.
ALTER TABLE state ADD COLUMN reuse INTEGER NOT NULL DEFAULT 0;
CREATE INDEX state_reuse ON state (seq) WHERE reuse <> 0;

-- Which task waits for which. needs: 0 for the parent's success, 1 for its end.
CREATE TABLE edge (
    parent INTEGER NOT NULL,
    child  INTEGER NOT NULL,
    needs  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_end ON edge (parent) WHERE needs = 1;

-- The same for runs of consecutive tasks, one row for any number of them. Shapes: 0, each child has one parent, in their order; 1, the
-- only child has all of them; 2, all children have the only parent.
CREATE TABLE link (
    link_id      INTEGER PRIMARY KEY,
    shape        INTEGER NOT NULL,
    first_parent INTEGER NOT NULL,
    last_parent  INTEGER NOT NULL,
    first_child  INTEGER NOT NULL,
    last_child   INTEGER NOT NULL,
    needs        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX link_parent ON link (last_parent);

-- The tasks of a map, to which the data of other tasks refer.
CREATE TABLE task_map (
    map_id TEXT PRIMARY KEY,
    runs   TEXT NOT NULL                         -- JSON: [first number, last number] of runs of consecutive tasks, in the order of the map
) STRICT, WITHOUT ROWID;

-- Changes of tasks that their children have to follow, in this order; see frontier.py.
CREATE TABLE frontier (
    note_id INTEGER PRIMARY KEY AUTOINCREMENT,
    seq     INTEGER NOT NULL,
    what    INTEGER NOT NULL,
    after   INTEGER NOT NULL DEFAULT 0           -- its children up to this number have followed
) STRICT;
CREATE INDEX frontier_seq ON frontier (seq);
