"""The ledger: one SQLite file per job that is the truth about it.

``database`` opens the file, ``insertion`` puts tasks in, ``leasing`` hands them out and records what became of them, ``repair`` is what
people do by hand, ``inquiry`` answers questions, ``counters`` keeps the counts. The tables are in ``sql/``.
"""
