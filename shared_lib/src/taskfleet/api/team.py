"""Workers for all managers of a job with the embedded queue: a process for the default one, and for each other one that has tasks."""

import os
import selectors
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from taskfleet.api.queue import open_job, require_tasks
from taskfleet.api.worker_process import WorkerProcess, end_all, standard_error
from taskfleet.api.working import WorkReport
from taskfleet.errors import CommandError, LedgerError, TaskfleetError, UnusableLedgerError
from taskfleet.ledger import control, leasing, managers
from taskfleet.ledger.database import Database
from taskfleet.processes.tree import die_with
from taskfleet.queues.addresses import is_remote
from taskfleet.settings import Configuration
from taskfleet.settings.environment import worker_command
from taskfleet.settings.manager_files import DEFAULT_MANAGER, has_managers
from taskfleet.watch.progress import Progress
from taskfleet.watch.status import gather
from taskfleet.watch.text import final_report
from taskfleet.worker.stop_requests import StopRequests

#: The process id of the team and the name of the manager, for a worker that belongs to a team.
VARIABLE = "TASKFLEET_TEAM"
#: The exit codes of such a worker that is to run no more tasks, by MAX_TASKS or a function of the user, and of one that was stopped.
LEFT, STOPPED = 5, 130
STEP_SECONDS = 0.2


def is_team_needed(configuration: Configuration) -> bool:
    """Return whether the job, with the embedded queue, may have tasks of managers."""
    if is_remote(configuration.settings.queue_url):
        return False
    if has_managers(configuration.project):
        return True
    if not configuration.ledger_path.exists():
        return False
    with closing(open_job(configuration, read_only=True)) as database:
        return bool(managers.names(database))


def join_team() -> str | None:
    """Return the manager whose tasks this process runs for a team, with which it ends; None if it belongs to none."""
    found = os.environ.pop(VARIABLE, None)
    if found is None:
        return None
    parent, _, manager = found.partition(" ")
    die_with(int(parent))
    return manager


def work_as_team(configuration: Configuration, argv: Sequence[str]) -> WorkReport:
    """Run a worker for the default manager, and one for each other that has tasks, until no tasks are left or they are stopped.

    Args:
        configuration: The settings.
        argv: The command line of the workers, without the command.

    Raises:
        LedgerError: There is no ledger of the job, or it cannot be used.
        CommandError: No tasks are inserted, and KEEP_WAITING is not set; or a worker ended with an error.
        SettingsError: A manager has no valid file of settings.
    """
    settings = configuration.settings
    stops = StopRequests()
    with closing(open_job(configuration)) as database:
        if not settings.keep_waiting:
            require_tasks(database, settings.job_id)
        progress = Progress(database, every_seconds=settings.progress_seconds, verbose=False)
        team = _Team(configuration, database, argv)
        with selectors.DefaultSelector() as selector, stops.from_signals(selector):
            try:
                while team.step(stops.count):
                    with suppress(LedgerError):
                        progress.tick(time.time())
                    for key, _ in selector.select(STEP_SECONDS):
                        key.data()
            finally:
                team.end()
                progress.close(time.time())
        if team.error is not None:
            raise team.error
        now = time.time()
        status = gather(database, now)
    return WorkReport(was_stopped=stops.count > 0 or team.was_stopped, status=status, text=final_report(status, now))


class _Team:
    """The workers, by the names of their managers."""

    def __init__(self, configuration: Configuration, database: Database, argv: Sequence[str]) -> None:
        self._configuration = configuration
        self._database = database
        self._command = [*worker_command(configuration.project), *argv]
        self._workers: dict[str, WorkerProcess] = {}
        self._skip: dict[str, int] = {}
        self._stops = 0
        self.error: TaskfleetError | None = None
        """Why it has stopped."""

    @property
    def was_stopped(self) -> bool:
        """Whether somebody stopped a worker."""
        return any(one.exit_code == STOPPED for one in self._workers.values())

    def step(self, stops: int) -> bool:
        """Start the workers that are needed, or stop all after an error or a request; return whether any runs.

        Args:
            stops: The number of requests to stop so far; the second one has tasks that run returned to the queue.
        """
        if not stops and self.error is None:
            try:
                self._start_needed()
            except UnusableLedgerError as error:
                self.error = error
            except LedgerError:
                pass  # it is busy or unavailable; workers report that
            except TaskfleetError as error:
                self.error = error
        wanted = stops + (self.error is not None)
        for _ in range(wanted - self._stops):
            for worker in self._workers.values():
                worker.stop()
        self._stops = max(wanted, self._stops)
        return any(one.is_running for one in self._workers.values())

    def end(self) -> None:
        """End the workers that still run."""
        end_all(self._workers.values())

    def _start_needed(self) -> None:
        if not self._workers:
            self._start("")
        for number, name in {0: "", **managers.names(self._database)}.items():
            worker = self._workers.get(name)
            code = None if worker is None else worker.exit_code
            if code not in (None, 0, LEFT, STOPPED):
                raise CommandError(f"The worker of manager {name or DEFAULT_MANAGER} ended with an error, see above.")
            if code in (LEFT, STOPPED) or (worker is not None and worker.is_running):
                continue
            was_killed = worker is not None and code is None
            if was_killed or self._has_tasks(name, number):
                self._start(name)

    def _has_tasks(self, name: str, number: int) -> bool:
        """Return whether a worker of a manager would run tasks; while the job is paused, it would end again at once."""
        return not control.is_paused(self._database) and leasing.has_leasable(
            self._database, self._skip.get(name, 0), number
        )

    def _start(self, name: str) -> None:
        if name not in self._workers:
            configuration = self._configuration.of_manager(name)
            self._skip[name] = configuration.settings.skip_tasks
            self._workers[name] = WorkerProcess(
                self._command,
                folder=Path.cwd(),
                environ={**os.environ, VARIABLE: f"{os.getpid()} {name}"},
                grace_seconds=configuration.settings.shutdown_grace_seconds,
                output=standard_error(),
            )
        self._workers[name].start()
