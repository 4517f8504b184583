"""The local engine as it comes (``TASKS_PER_PROCESS=1``): a process for each task. Measured as in ``taskfleet_kept``."""

from sides import taskfleet_kept

NAME = "taskfleet, process per task"
KEEPS = taskfleet_kept.KEEPS
DISTRIBUTION = None
SIZES = {"noop": 10_000, "work": 1000, "large": 600}
INSERTED = None


def missing():
    return None


def run(kind, n, folder):
    global INSERTED
    seconds = taskfleet_kept.run(kind, n, folder, tasks_per_process=1)
    INSERTED = taskfleet_kept.INSERTED
    return seconds
