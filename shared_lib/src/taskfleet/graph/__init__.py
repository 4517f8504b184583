"""Graphs of tasks: calls of functions that take the results of other calls.

``app`` makes a function callable as a task; each call returns a ``Future`` at once, and futures in the arguments of a call make it wait
for them. The calls are made inside ``with flow("NAME"):``, which sends them to the job of this name.
"""

from taskfleet.graph.apps import App, app
from taskfleet.graph.arguments import constant, succeeded
from taskfleet.graph.flow import Flow, flow
from taskfleet.graph.futures import Future, Futures, TaskError

__all__ = ["App", "Flow", "Future", "Futures", "TaskError", "app", "constant", "flow", "succeeded"]
