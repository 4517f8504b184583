"""Runs the tasks of queues: for each manager a worker, with the manager's environment and number of slots."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from taskfleet import script_import
from taskfleet.desipipe import resources, steering
from taskfleet.desipipe.clusters import ClusterJobs, command_of
from taskfleet.desipipe.environment import Environment
from taskfleet.desipipe.queue import Queue
from taskfleet.errors import CommandError, UnusableLedgerError, UsageError
from taskfleet.ledger import counters, frontier, leasing
from taskfleet.queues.embedded import retry_policy
from taskfleet.tasks import State

logger = logging.getLogger(__name__)

MODES = ("stop_at_error", "retry_at_timeout", "no_stream", "no_out")
DAY_SECONDS = 86_400.0
LONGEST_PAUSE_SECONDS = 0.2
#: How much of the end of a worker's log is shown if it ends with an error.
SHOWN_BYTES = 2000


def spawn(
    queue: Any,
    timeout: float = DAY_SECONDS,
    timestep: float = 10.0,
    mode: str = "",
    max_workers: int | None = None,
    spawn: bool = False,
) -> None:
    """Run the tasks of queues until all have ended. Tasks that other processes add meanwhile are run too.

    Args:
        queue: One queue or several, see ``steering.get_queue``.
        timeout: Stop after this time in seconds; running tasks end first.
        timestep: The longest time between two looks at the queue.
        mode: Words: ``stop_at_error`` to stop once a task has failed, ``no_out`` to keep no output. ``no_stream`` and
            ``retry_at_timeout`` are accepted.
        max_workers: Replaces that of the managers.
        spawn: Do this in another process, which goes on when this one ends, and return at once.

    Raises:
        UsageError: An argument is invalid.
        CommandError: A worker ended with an error.
    """
    if script_import.is_worker():
        return
    words = mode.replace(",", " ").split()
    unknown = [word for word in words if word not in MODES]
    if unknown:
        raise UsageError(f"There is no mode {unknown[0]!r}; there are {', '.join(MODES)}.")
    queues = steering.get_queue(queue, create=False, one=False)
    if spawn:
        for one in queues:
            _detach(one, timeout, timestep, mode, max_workers)
        return
    deadline = time.monotonic() + timeout
    with ExitStack() as stack:
        teams = [stack.enter_context(_Team(one, words, max_workers)) for one in queues]
        while True:
            are_left = [team.step() for team in teams]
            if not any(are_left):
                break
            if time.monotonic() > deadline:
                logger.warning("The time of %g s is over, and tasks are left.", timeout)
                break
            time.sleep(min(timestep, LONGEST_PAUSE_SECONDS))


class _Team:
    """The workers of a queue."""

    def __init__(self, queue: Queue, words: list[str], max_workers: int | None) -> None:
        self._queue = queue
        self._words = words
        self._max_workers = max_workers
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._clusters: dict[str, ClusterJobs] = {}
        self._policy = retry_policy(queue.settings)
        self._failed_before = self._failed()

    def __enter__(self) -> "_Team":
        return self

    def __exit__(self, *_error: object) -> None:
        for process in self._workers.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for jobs in self._clusters.values():
            jobs.end()
        for process in self._workers.values():
            process.wait()

    def step(self) -> bool:
        """Start the workers that are needed; return whether tasks are left.

        Raises:
            CommandError: A worker ended with an error.
        """
        database = self._queue.database
        try:
            database.check_file()
        except UnusableLedgerError:
            logger.warning("%s was deleted or replaced: its workers end.", self._queue.filename)
            return False
        for mid, process in list(self._workers.items()):
            code = process.poll()
            if code is not None and code < 0:
                logger.warning(
                    "A worker of %s was killed by signal %d; another one is started.", self._queue.filename, -code
                )
            elif code:
                raise CommandError(
                    f"A worker of {self._queue.filename} ended with code {code}:\n{self._end_of_log(mid)}"
                )
            if code is not None:
                del self._workers[mid]
        leasing.reap(
            database, policy=self._policy, now=time.time()
        )  # a dead worker's tasks, if no other worker is left
        frontier.carry(database)
        if "stop_at_error" in self._words and self._failed() > self._failed_before:
            logger.warning("A task of %s failed: no more are begun.", self._queue.filename)
            return False
        if not self._queue.paused:
            for mid in self._queue.unfinished_managers():
                if mid not in self._workers and mid not in self._clusters:
                    self._start(mid)
            for jobs in self._clusters.values():
                jobs.step(database)
        counts = counters.by_state(database)
        return bool(counts[State.PENDING] + counts[State.RUNNING] + counts[State.WAITING])

    def _failed(self) -> int:
        return counters.by_state(self._queue.database)[State.FAILED]

    def _start(self, mid: str) -> None:
        manager = self._queue.managers(mid=mid)
        provider, workers = manager.provider, self._max_workers or manager.scheduler["max_workers"]
        is_cluster = provider["provider"] in resources.CLUSTERS
        texts = {"MPI_LAUNCHER": resources.launcher(provider)}
        if provider.get("stop_after") is not None:
            texts["TASKS_PER_PROCESS"] = str(provider["stop_after"])
        if "no_out" in self._words:
            texts["OUTPUT_TAIL_KIB"] = "0"
        if is_cluster:
            texts["KEEP_WAITING"] = "false"  # a job that has no tasks ends
            if provider.get("killed_at_timeout"):
                texts["ON_TIME_LIMIT"] = "kill"
        else:
            texts["SLOTS"] = str(workers * resources.processes(provider))
        order = json.dumps(
            {
                "filename": self._queue.filename,
                "manager": mid,
                "settings": texts,
                "folder": os.getcwd(),
                "parent": None if is_cluster else os.getpid(),
            }
        )
        environ = Environment(manager.environ).to_dict(all=True)
        if is_cluster:
            self._clusters[mid] = ClusterJobs(
                Path(self._queue.filename),
                mid,
                provider,
                max_workers=workers,
                command=command_of(order),
                variables=environ,
            )
            return
        with open(self._log(mid), "wb") as log:
            self._workers[mid] = subprocess.Popen(
                command_of(order), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ
            )

    def _log(self, mid: str) -> str:
        folder = self._queue.filename.removesuffix(".db") + ".logs"
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return os.path.join(folder, f"{mid}.log")

    def _end_of_log(self, mid: str) -> str:
        with open(self._log(mid), "rb") as file:
            return file.read()[-SHOWN_BYTES:].decode(errors="replace")


def _detach(queue: Queue, timeout: float, timestep: float, mode: str, max_workers: int | None) -> None:
    words = ["--timeout", str(timeout), "--timestep", str(timestep)]
    words += ["--mode", mode] if mode else []
    words += ["--max-workers", str(max_workers)] if max_workers else []
    with open(queue.filename.removesuffix(".db") + ".log", "ab") as log:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "taskfleet.desipipe", "spawn", "-q", queue.filename, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
