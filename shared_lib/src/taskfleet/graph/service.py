"""The service queue of a flow: sends its tasks, and records what workers report while a script waits for results."""

import time
from collections.abc import Mapping

from taskfleet.ledger import managers, sending
from taskfleet.ledger.database import Database
from taskfleet.queues.job import JobQueues
from taskfleet.settings import Configuration, command_for
from taskfleet.text import counted
from taskfleet.watch.bar import say
from taskfleet.watch.monitor import SILENT_SECONDS, WAIT_SECONDS, Monitor

#: How long to wait for a worker before the user is told that there is none.
PATIENCE_SECONDS = 5.0


class Service:
    """The service queue of a flow, whose workers run elsewhere; for one thread.

    Args:
        configuration: The settings.
        database: The job's ledger.
    """

    def __init__(self, configuration: Configuration, database: Database) -> None:
        self._configuration = configuration
        self._database = database
        self._monitor: Monitor | None = None
        self._managers: Mapping[int, str] = {}
        """Those whose queues exist."""
        self._alone_since: dict[str, float] = {}
        """Since when managers have had tasks to run and no worker."""
        self._told: set[str] = set()

    def send(self) -> None:
        """Send the tasks that are not sent yet; create the queues if they do not exist, also those of managers whose tasks wait.

        Raises:
            QueueError: They cannot be sent; they are in the ledger.
            StoreError: The results that a task needs are too large for a message, and cannot be written to RESULTS_PATH.
        """
        names = managers.names(self._database)
        if names == self._managers and not sending.count_unsent(self._database):
            return
        with JobQueues(self._configuration, say=say) as queues:
            queues.create(self._database)
            self._managers = names
            queues.send_unsent(self._database)

    def step(self, wait_seconds: float = WAIT_SECONDS) -> None:
        """Record what was reported, waiting a moment for it, and send what that released."""
        if self._monitor is None:
            queues = JobQueues(self._configuration, say=say)
            queues.require()
            self._monitor = Monitor(self._database, self._configuration, queues)
        self._monitor.step(wait_seconds)
        self._look_for_workers()

    def _look_for_workers(self) -> None:
        """Tell the user once about each manager whose tasks no worker runs."""
        now = time.time()
        workers = self._database.rows(
            "SELECT DISTINCT manager_id FROM worker WHERE ended_at IS NULL AND seen_at > ?", (now - SILENT_SECONDS,)
        )
        names = managers.names(self._database)
        unattended = managers.unattended(self._database, {manager_id for (manager_id,) in workers})
        alone = {names.get(number, ""): n for number, n in unattended.items()}
        self._alone_since = {name: self._alone_since.get(name, now) for name in alone}
        for name, n in alone.items():
            if name in self._told or now - self._alone_since[name] < PATIENCE_SECONDS:
                continue
            self._told.add(name)
            job = f"job {self._configuration.settings.job_id}{f', manager {name},' if name else ''}"
            pool = f"; or a pool: {command_for(self._configuration, 'deploy_pool')}"
            say(
                f"{counted(n, 'task')} of {job} can run, and no worker has reported. Start one on any machine that can use QUEUE_URL: "
                f"{command_for(self._configuration, f'launch_worker --manager {name}' if name else 'launch_worker')}{pool}."
            )
