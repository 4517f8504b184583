"""Workers on this computer that run the tasks of a flow while its script waits for results: one for each manager that is needed.

Each is a process of its own, so that a script can wait in any thread and the worker keeps what it has imported between two results. They
stop when the script ends, and finish the tasks that run.
"""

import os
import sys
import time

from taskfleet.api.worker_process import WorkerProcess, end_all, standard_error
from taskfleet.errors import CommandError
from taskfleet.ledger import leasing, managers
from taskfleet.ledger.database import Database
from taskfleet.settings import Configuration
from taskfleet.settings.environment import from_files


class LocalWorkers:
    """Starts workers when they are needed, and stops them at the end."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._workers: dict[str, WorkerProcess] = {}

    def start_needed(self, database: Database) -> None:
        """Start a worker for each manager that has tasks to run and no worker, here or elsewhere.

        Raises:
            CommandError: A worker ended with an error.
            SettingsError: A manager has no file of settings.
        """
        for name, worker in self._workers.items():
            if worker.exit_code:
                whose = f" of manager {name}" if name else ""
                raise CommandError(f"The worker{whose} ended with an error, see above.")
        attended = leasing.attended(database, time.time())
        names = {0: "", **managers.names(database)}
        wanted = [number for number in names if number not in attended and leasing.has_leasable(database, 0, number)]
        for number in wanted or ([] if attended else [0]):
            name = names[number]
            if name not in self._workers:
                self._workers[name] = self._make(self._configuration.of_manager(name))
            self._workers[name].start()

    def _make(self, configuration: Configuration) -> WorkerProcess:
        arguments = f"{os.getpid()}, {configuration.manager!r}, shows_progress={not self._workers}"
        settings = self._configuration.texts | from_files(self._configuration)  # it reads the manager's file itself
        return WorkerProcess(
            [sys.executable, "-P", "-c", f"import sys, {__name__} as worker; sys.exit(worker.main({arguments}))"],
            folder=configuration.project,
            environ={**os.environ, **settings},
            grace_seconds=configuration.settings.shutdown_grace_seconds,
            output=standard_error(),
        )

    def end(self) -> None:
        """Stop the workers, and wait for the tasks that they run; Ctrl-C then has them return these to the queue."""
        end_all(self._workers.values())


def main(parent: int, manager: str, *, shows_progress: bool) -> int:
    """Work until the script ends; return the exit code of the process."""
    from taskfleet.api.job import Job
    from taskfleet.api.working import work
    from taskfleet.errors import TaskfleetError
    from taskfleet.settings.environment import enter_environment
    from taskfleet.worker.hooks import make_hooks

    try:
        configuration = Job.open(keep_waiting=True).configuration.of_manager(manager)
        enter_environment(configuration)
        work(
            configuration,
            hooks=make_hooks(None, None, lambda: os.getppid() != parent),
            shows_progress=shows_progress,
        )
    except TaskfleetError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
