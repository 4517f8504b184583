-- The versions of Python and of the packages of workers, a JSON object; each set once.
CREATE TABLE environment (
    environment_id INTEGER PRIMARY KEY,
    packages       TEXT NOT NULL UNIQUE
) STRICT;
ALTER TABLE worker ADD COLUMN environment_id INTEGER;
