-- From here on, end_reason is a code of machines.EndReason, and detail has the provider's words. The sentences of earlier schemas are
-- translated by the migration, see ledger/migrations.py; machines are few.
ALTER TABLE machine ADD COLUMN detail TEXT NOT NULL DEFAULT '';
-- Whether it may wait in its provider's queue, unpaid. If so, costs and its lifetime count from running_at.
ALTER TABLE machine ADD COLUMN can_queue INTEGER NOT NULL DEFAULT 0;
-- When it began to run, at the earliest; NULL while it waits, and if it never ran. Of machines that cannot wait: started_at.
ALTER TABLE machine ADD COLUMN running_at REAL;
