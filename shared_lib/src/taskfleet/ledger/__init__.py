"""The ledger: one SQLite file per job that is the truth about it.

``database`` opens the file. ``insertion`` puts a table's tasks in, ``small_insertion`` a few; ``task_ids`` keeps their ids apart.
``leasing`` hands tasks out and takes note of what became of them; ``recording`` does so for workers at a service's queue, which
``sending`` fills; ``repair`` and ``moving`` are what people do by hand. All of these change where tasks stand by ``transitions``, which
keeps the counts of ``counters`` and the ``attempts``. ``inquiry`` answers questions; ``segments`` and ``standing`` know how to read
where tasks stand. The tables are in ``sql/``.
"""
