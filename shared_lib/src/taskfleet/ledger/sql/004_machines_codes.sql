-- From here on, end_reason is a code of machines.EndReason, and detail has the provider's words. The sentences of earlier schemas are
-- translated by the migration, see ledger/migrations.py; machines are few.
ALTER TABLE machine ADD COLUMN detail TEXT NOT NULL DEFAULT '';
-- Whether the provider may queue it without cost. If so, costs and lifetime count from running_at.
ALTER TABLE machine ADD COLUMN can_queue INTEGER NOT NULL DEFAULT 0;
-- The earliest time at which it ran; NULL while it is queued and if it never ran. For machines that cannot be queued: started_at.
ALTER TABLE machine ADD COLUMN running_at REAL;
