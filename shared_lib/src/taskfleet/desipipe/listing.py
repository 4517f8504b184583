"""Shows the tasks of queues as log records."""

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from taskfleet.desipipe.queue import Queue
from taskfleet.desipipe.records import TaskState
from taskfleet.text import harmless

logger = logging.getLogger("taskfleet")

#: What can be shown of a task; the first four by default.
PROPERTIES = ("jobid", "errno", "err", "out", "id", "index", "dtime", "versions", "result")
_LINE = "=" * 30


def show_tasks(queue: Queue, states: Sequence[str], properties: Sequence[str], **selection: Any) -> None:
    """Show the tasks of a queue by state.

    Args:
        queue: The queue.
        states: Those to show.
        properties: What to show of each task, if it has a value.
        **selection: See ``Queue.tasks``.
    """
    for state in states:
        found = queue.tasks(state=state, one=False, **selection)
        if not found:
            continue
        logger.info("Tasks that are %s:", state)
        for task in found:
            logger.info("app: %s", task.app.name)
            for name in properties:
                value = getattr(task, name)
                if value is not None and str(value) not in ("", "0", "{}"):
                    logger.info("%s: %s", name, harmless(str(value)))
            logger.info(_LINE)


def show_times(queue: Queue, **selection: Any) -> None:
    """Show the mean and the standard deviation of the time of the tasks that succeeded, by app."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for task in queue.tasks(state=TaskState.SUCCEEDED, one=False, **selection):
        seconds[task.app.name].append(task.dtime)
    logger.info("Time:")
    for name, of_app in seconds.items():
        mean = sum(of_app) / len(of_app)
        spread = math.sqrt(sum((one - mean) ** 2 for one in of_app) / max(len(of_app) - 1, 1))
        logger.info("%s: %.1f +/- %.1f", name, mean, spread)
