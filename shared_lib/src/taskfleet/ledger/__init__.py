"""The ledger: one SQLite file per job, which is the source of truth about it.

``database`` opens the file, ``migrations`` brings its schema up to date. ``insertion`` inserts the tasks of a table, ``small_insertion``
a few tasks; ``task_ids`` keeps their ids unique. ``leasing`` leases tasks to workers and records how attempts end; ``recording`` does so
for workers at a service queue, to which ``sending`` sends tasks. ``repair`` and ``moving`` implement user commands. All of these change
the state of tasks through ``transitions``, which keeps the counts of ``counters`` and the ``attempts``. ``queries`` reads what commands
show; ``segments`` and ``task_states`` read the state of tasks. The tables are in ``sql/``.
"""
