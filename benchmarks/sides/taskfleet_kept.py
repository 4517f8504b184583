"""The local engine with ``TASKS_PER_PROCESS=0``: two processes kept for ever, as its guide advises for tasks of milliseconds.

Measured: from the start of the first task (as the ledger has it) until the ledger's counter says that all succeeded, looked at every
10 ms; their results are then on disk (write-ahead log, synchronous NORMAL). Not measured: starting and ending the worker; inserting a
feather table with ``poe insert_tasks``, which is timed apart, as a whole command.
"""

import ours

NAME = "taskfleet, process kept"
KEEPS = "arguments, attempts, results (SQLite)"
DISTRIBUTION = "taskfleet"
SIZES = {"noop": 300_000, "work": 1000, "large": 600}
INSERTED = None


def missing():
    return None


def run(kind, n, folder, tasks_per_process=0):
    global INSERTED
    project = ours.make_project(folder / "project", function=f"task:{kind}")
    INSERTED = ours.insert(project, n).seconds
    return ours.drain(project, n, tasks_per_process=tasks_per_process)
