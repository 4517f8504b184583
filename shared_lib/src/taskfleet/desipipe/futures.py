"""The results of calls, which may not be there yet."""

import logging
import time
from typing import Any, ClassVar, Protocol

from taskfleet.tasks import State

logger = logging.getLogger(__name__)

_ENDED = (State.SUCCEEDED.name, State.FAILED.name, State.KILLED.name)
LONGEST_PAUSE_SECONDS = 0.2


class Source(Protocol):
    """What a future needs of its queue; see ``queue.Queue``."""

    def seq_of(self, task_id: str) -> int:
        """Return the number of a task in the ledger."""

    def tasks(self, tid: Any = None, *, property: Any = None) -> Any:
        """Return a task, or a property of it."""


class Future:
    """The result of a call in a queue.

    Args:
        queue: The queue.
        tid: The task's id.
    """

    is_desipipe_future: ClassVar[bool] = True

    def __init__(self, queue: Source, tid: str) -> None:
        self.queue = queue
        self.id = str(tid)

    @property
    def seq(self) -> int:
        """The task's number in the ledger."""
        return self.queue.seq_of(self.id)

    @property
    def state(self) -> str:
        """The state of the task: WAITING, PENDING, RUNNING, SUCCEEDED, FAILED or KILLED."""
        state: str = self.queue.tasks(tid=self.id, property="state")
        return state

    def done(self) -> bool:
        """Return whether the task has ended, successful or not."""
        return self.state in _ENDED

    def result(self, timeout: float = 1e4, timestep: float = 1.0) -> Any:
        """Return the result; None if the task did not succeed, or has not ended in time. It does not run the task: ``spawn`` does.

        Args:
            timeout: The maximum time to wait in seconds.
            timestep: The longest time between two looks at the queue.
        """
        task = self._ended(timeout, timestep, "result")
        if task is not None and task.state != State.SUCCEEDED.name:
            logger.error("%s has no result, because it is %s: %s", self.id, task.state, task.reason)
        return None if task is None else task.result

    def err(self, timeout: float = 1e4, timestep: float = 1.0) -> str | None:
        """Return what the task wrote to standard error, and its traceback if it failed; for the rest see ``result``."""
        task = self._ended(timeout, timestep, "err")
        return None if task is None else str(task.err)

    def out(self, timeout: float = 1e4, timestep: float = 1.0) -> str | None:
        """Return what the task wrote to standard output; for the rest see ``result``."""
        task = self._ended(timeout, timestep, "out")
        return None if task is None else str(task.out)

    def _ended(self, timeout: float, timestep: float, what: str) -> Any:
        deadline = time.monotonic() + timeout
        while not self.done():
            left = deadline - time.monotonic()
            if left <= 0:
                logger.error("%s is still %s: time out while getting its %s", self.id, self.state, what)
                return None
            time.sleep(min(timestep, LONGEST_PAUSE_SECONDS, left))
        return self.queue.tasks(tid=self.id)

    def __repr__(self) -> str:
        """Return the task's id."""
        return f"Future({self.id})"
