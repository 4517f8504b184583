"""One module for each program that is compared, ours among them.

Every module has:

``NAME``
    As the table shows it.
``KEEPS``
    What it keeps of a task, in a few words: sides that keep less have less to do.
``DISTRIBUTION``
    The distribution whose version is shown; None if there is none.
``SIZES``
    For each kind of task how many to do in a full run, such that it takes seconds.
``missing()``
    What is not installed, with the remedy; None if all is there.
``run(kind, n, folder)``
    Does n tasks of a kind with two workers, everything in that folder, and returns the seconds of draining. What exactly is measured
    stands in the module's docstring. A run that does not do all n tasks raises.
``INSERTED``
    Seconds the last ``run`` took to insert, set by it; None where there is no separate insertion.
"""

import importlib
from types import ModuleType

#: In the order of the table.
ALL = (
    "taskfleet_kept",
    "taskfleet_fresh",
    "pool_by_one",
    "pool_auto",
    "huey_sqlite",
    "huey_as_it_comes",
    "celery_redis",
    "task_queue",
    "hyperqueue_local",
    "gnu_parallel",
    "rms_cloud_tasks",
)


def load(name: str) -> ModuleType:
    """Import a side."""
    return importlib.import_module(f"sides.{name}")
