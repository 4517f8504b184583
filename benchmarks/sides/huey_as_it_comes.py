"""huey with SqliteHuey as it comes: SQLite then syncs the disk at each commit (synchronous FULL), which ours and ``huey_sqlite`` do not.

A finished task survives a power cut at once here, in those two after the next checkpoint. Measured as in ``huey_sqlite``.
"""

from sides import huey_sqlite

NAME = "huey, SQLite as it comes"
KEEPS = "results (SQLite, each synced)"
DISTRIBUTION = None
SIZES = {"noop": 8000, "work": 800, "large": 400}
INSERTED = None


def missing():
    return huey_sqlite.missing()


def run(kind, n, folder):
    global INSERTED
    seconds = huey_sqlite.run(kind, n, folder, synchronous="full")
    INSERTED = huey_sqlite.INSERTED
    return seconds
