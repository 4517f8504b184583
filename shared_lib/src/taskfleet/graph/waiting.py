"""Waits for tasks, and has them run here unless other workers do."""

import time
from collections.abc import Callable, Sequence

from taskfleet.graph.futures import TaskError
from taskfleet.graph.local_worker import LocalWorkers
from taskfleet.graph.service import Service
from taskfleet.ledger import frontier, lost_files, outcomes
from taskfleet.ledger.calls import as_runs
from taskfleet.ledger.database import Database
from taskfleet.watch.monitor import WAIT_SECONDS

SHORTEST_SECONDS = 0.005
LONGEST_SECONDS = 0.2
#: Minimum ratio of a pause to the duration of the check before it, which takes 0.1 s for a million tasks.
LOOK_SHARE = 10
#: How often to look for workers.
WORKER_SECONDS = 1.0


def wait(
    database: Database,
    seqs: Sequence[int],
    timeout: float | None,
    workers: LocalWorkers | None,
    command: Callable[[str], str],
    service: Service | None = None,
) -> None:
    """Wait until tasks have succeeded.

    Args:
        database: The job's ledger.
        seqs: The tasks.
        timeout: The maximum time in seconds; None for any time.
        workers: Run the tasks if no other workers do; None if they have to run elsewhere.
        command: Returns a command about the job as the user would type it.
        service: The queue from which workers elsewhere take them; None for the ledger.

    Raises:
        TaskError: One failed or was killed.
        TimeoutError: They have not ended in time.
        CommandError: A worker ended before.
    """
    waiting = _Waiting(database, seqs, timeout)
    pause, looked_at = SHORTEST_SECONDS, 0.0
    while True:
        began_at = time.monotonic()
        if waiting.is_over():
            break
        now = time.monotonic()
        pause = max(pause, LOOK_SHARE * (now - began_at))
        if workers is not None and now - looked_at >= WORKER_SECONDS:
            looked_at = now
            workers.start_needed(database)
        if service is not None:
            service.step(waiting.seconds_left(WAIT_SECONDS))
            continue
        time.sleep(pause)
        pause = min(pause * 1.2, LONGEST_SECONDS)
    waiting.check(command)


class _Waiting:
    """The tasks that are waited for."""

    def __init__(self, database: Database, seqs: Sequence[int], timeout: float | None) -> None:
        self._database = database
        self._left = as_runs(sorted(set(seqs)))
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._not_succeeded: int | None = None

    def is_over(self) -> bool:
        """Return whether all tasks have ended, one did not succeed, or the time has passed."""
        left = []
        for first, last in self._left:
            self._not_succeeded = outcomes.first_not_succeeded(self._database, first, last)
            if self._not_succeeded is not None:
                return True
            if outcomes.count_ended(self._database, first, last) < last - first + 1:
                left.append((first, last))
        self._left = left
        return not left or (self._deadline is not None and time.monotonic() > self._deadline)

    def seconds_left(self, most: float) -> float:
        """Return the time that is left, up to ``most``."""
        return most if self._deadline is None else max(0.0, min(most, self._deadline - time.monotonic()))

    def check(self, command: Callable[[str], str]) -> None:
        """Raise the error of a task that did not succeed, or TimeoutError."""
        if self._not_succeeded is not None:
            frontier.carry(self._database)
            task_id, root_id, error = outcomes.failure(self._database, self._not_succeeded)
            cause = "" if root_id == task_id else f" because {root_id} did not"
            first_line = error.partition("\n")[0]
            lost = lost_files.remedy(self._database, first_line, command, root_id)
            more = f"{lost}." if lost else f"{command(f'task {root_id}')} shows more."
            raise TaskError(f"{task_id} did not succeed{cause}: {first_line}\n{more}")
        if self._left:
            n = sum(last - first + 1 for first, last in self._left)
            raise TimeoutError(f"{n:,} tasks have not ended in time.")
