-- Why machines ended is a code of machines.EndReason; what the provider says about it stands beside it, in its words. What earlier
-- versions wrote, sentences, is translated here, once: machines are few.
ALTER TABLE machine ADD COLUMN detail TEXT NOT NULL DEFAULT '';
-- Whether it may wait in its provider's queue, unpaid. If so, costs and its lifetime count from running_at.
ALTER TABLE machine ADD COLUMN can_queue INTEGER NOT NULL DEFAULT 0;
-- When it began to run, at the earliest; NULL while it waits, and if it never ran. Of machines that cannot wait: started_at.
ALTER TABLE machine ADD COLUMN running_at REAL;

UPDATE machine SET running_at = started_at;

UPDATE machine SET
    end_reason = CASE
        WHEN end_reason = 'all tasks are done' THEN 'done'
        WHEN end_reason = 'no worker was heard in time' THEN 'late'
        WHEN end_reason = 'its worker fell silent' THEN 'silent'
        WHEN end_reason = 'not in the ledger' THEN 'unknown'
        WHEN end_reason = 'never seen to start' THEN 'never_started'
        WHEN end_reason = 'gone' THEN 'gone'
        WHEN end_reason = 'stopped by the user' THEN 'stopped'
        WHEN end_reason = 'torn down by the user' THEN 'torn_down'
        WHEN end_reason = 'terminated by the user' THEN 'terminated'
        WHEN end_reason GLOB 'preempted: *' THEN 'preempted'
        WHEN end_reason GLOB 'no capacity: *' THEN 'stock_out'
        WHEN end_reason GLOB 'quota: *' THEN 'quota'
        WHEN end_reason GLOB 'throttled: *' THEN 'throttled'
        WHEN end_reason GLOB 'price: *' THEN 'price'
        WHEN end_reason GLOB 'refused: *' THEN 'invalid'
        WHEN instance_id IS NULL AND ended_at = ordered_at THEN 'launch_error'   -- what the provider raised
        WHEN ending_since IS NOT NULL THEN 'gave_up'                             -- why the pool could not go on
        ELSE 'ended'                                                             -- what the provider told of its end
    END,
    detail = CASE
        WHEN end_reason IN (
            'all tasks are done', 'no worker was heard in time', 'its worker fell silent', 'not in the ledger', 'never seen to start',
            'gone', 'stopped by the user', 'torn down by the user', 'terminated by the user'
        ) THEN ''
        WHEN end_reason GLOB 'preempted: *' OR end_reason GLOB 'no capacity: *' OR end_reason GLOB 'quota: *'
            OR end_reason GLOB 'throttled: *' OR end_reason GLOB 'price: *' OR end_reason GLOB 'refused: *'
            THEN substr(end_reason, instr(end_reason, ': ') + 2)
        ELSE end_reason
    END
WHERE end_reason IS NOT NULL;
