"""Run a Python function over a table: on this machine, or on spot instances of AWS and Google Cloud.

A task function gets a row's columns as keyword arguments and may use ``TaskContext``, ``Retry`` and ``Fail``. A project's two scripts
call ``insert_tasks`` and ``launch_worker``. ``Job`` has the commands as methods, which raise ``TaskfleetError``. Large dependencies are
imported on first use only.
"""

from taskfleet.name_clashes import check_script_folder

check_script_folder()  # first: from here on, one of the user's files may be imported in place of a module of Python

# isort: split
from typing import TYPE_CHECKING  # noqa: E402

from taskfleet.context import Fail, Retry, TaskContext  # noqa: E402
from taskfleet.outputs import list_outputs, output_name  # noqa: E402
from taskfleet.version import VERSION  # noqa: E402

if TYPE_CHECKING:
    from taskfleet.api.job import Job
    from taskfleet.errors import TaskfleetError
    from taskfleet.scripts import insert_tasks, launch_worker

__all__ = [
    "Fail",
    "Job",
    "Retry",
    "TaskContext",
    "TaskfleetError",
    "insert_tasks",
    "launch_worker",
    "list_outputs",
    "output_name",
]
__version__ = VERSION


_HOMES = {
    "Job": "taskfleet.api.job",
    "TaskfleetError": "taskfleet.errors",
    "insert_tasks": "taskfleet.scripts",
    "launch_worker": "taskfleet.scripts",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
