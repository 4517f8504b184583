"""Run a Python function over a table: on this machine, or on spot instances of AWS and Google Cloud.

A task function gets a row's columns as keyword arguments and may use ``TaskContext``, ``Retry`` and ``Fail``. ``insert_tasks`` and
``launch_worker`` are what a project's two scripts call. Nothing heavy is imported before it is used.
"""

from typing import TYPE_CHECKING

from taskfleet.context import Fail, Retry, TaskContext

if TYPE_CHECKING:
    from taskfleet.commands.insert_tasks import insert_tasks
    from taskfleet.commands.launch_worker import launch_worker

__all__ = ["Fail", "Retry", "TaskContext", "insert_tasks", "launch_worker"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in {"insert_tasks", "launch_worker"}:
        import importlib

        return getattr(importlib.import_module(f"taskfleet.commands.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
