-- The lowest schema whose code may write this file, see ledger/migrations.py.
ALTER TABLE job ADD COLUMN oldest_writer INTEGER NOT NULL DEFAULT 5;

-- Library versions; empty where unknown. Of a job: the version that made its ledger or migrated it last.
ALTER TABLE job ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE worker ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE machine ADD COLUMN version TEXT NOT NULL DEFAULT '';
