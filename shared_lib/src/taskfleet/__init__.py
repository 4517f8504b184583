"""Run a Python function over a table: on this machine, or on spot instances of AWS and Google Cloud.

A task function gets a row's columns as keyword arguments and may use ``TaskContext``, ``Retry`` and ``Fail``. A project's two scripts
call ``insert_tasks`` and ``launch_worker``. ``Job`` has the commands as methods, which raise ``TaskfleetError``. Large dependencies are
imported on first use only.
"""

from typing import TYPE_CHECKING

from taskfleet.context import Fail, Retry, TaskContext
from taskfleet.version import VERSION

if TYPE_CHECKING:
    from taskfleet.api.job import Job
    from taskfleet.commands.insert_tasks import insert_tasks
    from taskfleet.commands.launch_worker import launch_worker
    from taskfleet.errors import TaskfleetError

__all__ = ["Fail", "Job", "Retry", "TaskContext", "TaskfleetError", "insert_tasks", "launch_worker"]
__version__ = VERSION


_HOMES = {
    "Job": "taskfleet.api.job",
    "TaskfleetError": "taskfleet.errors",
    "insert_tasks": "taskfleet.commands.insert_tasks",
    "launch_worker": "taskfleet.commands.launch_worker",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
