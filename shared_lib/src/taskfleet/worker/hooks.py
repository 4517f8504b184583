"""Functions of the user that the worker's own process calls around tasks, and to learn whether it should stop."""

import inspect
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from taskfleet.queues import Queue
from taskfleet.tasks import Finished, FinishReport, Lease, Outcome

#: The values that a function that stops the worker may ask for, by the names of its parameters.
STOP_PARAMETERS = ("executed", "tries", "previous_execution_time", "elapsed_time")
IDLE_SECONDS = 1.0


class Hooks:
    """An observer of the worker that calls the user's functions, with the names and arguments of python-task-queue.

    The functions run in the worker's process, which must renew its leases, so they should be quick. Their exceptions end the worker.

    Args:
        before_fn: Called with each ``Lease`` (``task_id``, ``attempt``, ``data``) before its task runs; tasks are leased ahead.
        after_fn: Called with the lease after its task succeeded and was recorded.
        stop_fn: Called after tasks were recorded, and about once a second while there are none; the worker stops when it returns True.
            It gets those of these parameters that it has: ``executed`` (tasks that succeeded), ``tries`` (calls since the last one of
            them), ``previous_execution_time`` and ``elapsed_time`` in seconds.
    """

    def __init__(
        self,
        *,
        before_fn: Callable[[Lease], object] | None = None,
        after_fn: Callable[[Lease], object] | None = None,
        stop_fn: Callable[..., bool] | None = None,
    ) -> None:
        self._before = before_fn
        self._after = after_fn
        self._stop = stop_fn
        named = inspect.signature(stop_fn).parameters if stop_fn is not None else ()
        self._wanted = [name for name in STOP_PARAMETERS if name in named]
        self._values: dict[str, float] = {"executed": 0, "tries": 0, "previous_execution_time": 0.0}
        self._began_at = self._asked_at = time.monotonic()
        self.stop_worker: Callable[[], None] = lambda: None
        """Stops the worker that this belongs to."""
        self.has_stopped = False
        """Whether ``stop_fn`` stopped it."""

    def around(self, queue: Queue) -> Queue:
        """Return a queue that calls ``before_fn``."""
        return queue if self._before is None else cast(Queue, _Announcing(queue, self._before))

    def recorded(self, leases: Sequence[Lease], finished: Sequence[Finished], report: FinishReport) -> None:
        """See ``Observer.recorded``."""
        for lease, outcome in zip(leases, finished, strict=True):
            if outcome.outcome == Outcome.SUCCEEDED and outcome.key not in report.duplicates:
                self._values["executed"] += 1
                self._values["tries"] = 0
                self._values["previous_execution_time"] = outcome.elapsed_seconds
                if self._after is not None:
                    self._after(lease)
        self._ask()

    def tick(self, now: float) -> None:  # noqa: ARG002
        """See ``Observer.tick``."""
        if time.monotonic() - self._asked_at >= IDLE_SECONDS:
            self._ask()

    def say(self, text: str) -> None:
        """Do nothing."""

    def termination_noticed(self, now: float) -> None:
        """Do nothing."""

    def _ask(self) -> None:
        if self._stop is None or self.has_stopped:
            return
        self._asked_at = time.monotonic()
        self._values["tries"] += 1
        values = self._values | {"elapsed_time": self._asked_at - self._began_at}
        if self._stop(**{name: values[name] for name in self._wanted}):
            self.has_stopped = True
            self.stop_worker()


def make_hooks(
    before_fn: Callable[[Lease], object] | None,
    after_fn: Callable[[Lease], object] | None,
    stop_fn: Callable[..., bool] | None,
) -> Hooks | None:
    """Return the hooks; None if there are none, because they cost time for each task."""
    if before_fn is None and after_fn is None and stop_fn is None:
        return None
    return Hooks(before_fn=before_fn, after_fn=after_fn, stop_fn=stop_fn)


class _Announcing:
    """A queue whose leases are announced; everything else is the queue's."""

    def __init__(self, queue: Queue, announce: Callable[[Lease], object]) -> None:
        self._queue = queue
        self._announce = announce

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def lease(self, most: int, now: float) -> list[Lease]:
        """See ``Queue.lease``."""
        leases = self._queue.lease(most, now)
        for one in leases:
            self._announce(one)
        return leases
