"""Run scripts written for desipipe: ``from taskfleet.desipipe import Queue, …`` replaces their own import.

``docs/desipipe.md`` compares the two.
"""

from taskfleet.desipipe.apps import BashApp, PythonApp
from taskfleet.desipipe.environment import Environment, get_environ
from taskfleet.desipipe.files import FileManager
from taskfleet.desipipe.futures import Future
from taskfleet.desipipe.logs import setup_logging
from taskfleet.desipipe.managers import TaskManager
from taskfleet.desipipe.queue import Queue
from taskfleet.desipipe.records import Task, TaskState
from taskfleet.desipipe.spawning import spawn
from taskfleet.desipipe.steering import get_queue, kill, retry

__all__ = [
    "BashApp",
    "Environment",
    "FileManager",
    "Future",
    "PythonApp",
    "Queue",
    "Task",
    "TaskManager",
    "TaskState",
    "get_environ",
    "get_queue",
    "kill",
    "retry",
    "setup_logging",
    "spawn",
]
