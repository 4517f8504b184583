"""Make the pools of a job's managers: their plans, the machines at their providers, and their controllers."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from taskfleet.api.planning import Plan, plan
from taskfleet.errors import CommandError, SettingsError
from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.machines import Machines
from taskfleet.machines.provider import provider_of
from taskfleet.pool import records
from taskfleet.pool.code_delivery import CodeDelivery
from taskfleet.pool.controller import Controller
from taskfleet.pool.job_machines import machine_name, open_machines
from taskfleet.pool.job_state import LedgerJobState
from taskfleet.pool.selection import pool_limits, pool_need, useful_lifetime_seconds
from taskfleet.pool.task_size import slots_per_task
from taskfleet.settings import Configuration
from taskfleet.settings.parsers import SERVER, is_in_project


def check_machines(configuration: Configuration) -> None:
    """Check that the provider's machines can access the queue, have an identity with which to do so, and live as long as tasks may run.

    Raises:
        SettingsError: They cannot access it, have no identity, or end before a task may.
    """
    provider = provider_of(configuration)
    queue_url = configuration.settings.queue_url
    if not provider.shares_file_system and is_in_project(queue_url):
        place = "queue's server" if queue_url == SERVER else "ledger"
        raise SettingsError(
            f"PROVIDER={provider.name}: machines cannot access the {place} on this computer (QUEUE_URL={queue_url}). Use a service queue: "
            f"QUEUE_URL={provider.example_queue_url} in config/task.env, or PROVIDER=local."
        )
    provider.check_machines(configuration)
    hours, most_seconds = configuration.pool.lifetime_hours, configuration.settings.max_runtime_seconds
    least_seconds = useful_lifetime_seconds(configuration)
    if most_seconds is not None and least_seconds > hours * 3600:
        raise SettingsError(
            f"A task may run for {most_seconds:g} s (MAX_RUNTIME_SECONDS), and a machine lives for {hours * 3600:g} s "
            f"(LIFETIME_HOURS={hours:g}), which would end the task every time. Set LIFETIME_HOURS={_rounded_up(least_seconds / 3600):g} or "
            "more in config/pool.env, or a lower MAX_RUNTIME_SECONDS in config/task.env."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A pool that can be started."""

    configuration: Configuration
    plan: Plan
    machines: Machines


class PoolMaker:
    """Prepares and makes the pools of a job, whose managers' settings it reads.

    Args:
        configuration: The settings of the default manager.
        database: The job's ledger.
        say: Called with messages for the user.
    """

    def __init__(self, configuration: Configuration, database: Database, say: Callable[[str], None]) -> None:
        self._configuration = configuration
        self._database = database
        self._say = say
        self._delivery = CodeDelivery(say)
        self._prepared: dict[str, _Prepared] = {}
        # without machines of an earlier run, its failures do not count: the user may have corrected their cause
        self._failures_since = 0.0 if records.open_machines(database) else time.time()

    def prepare(self, name: str, found: Plan | None = None) -> None:
        """Upload the code for the machines of a manager, and run the provider's preflight checks.

        Args:
            name: The name of the manager; empty for the default one.
            found: The choice of machines; None to choose now.

        Raises:
            CommandError: A preflight check failed.
            SettingsError: The settings of the manager's tasks or of its pool are invalid.
        """
        configuration = of_manager(self._configuration, name)
        check_machines(configuration)
        found = found or plan(configuration, even_if_done=True, say=self._say)
        assert found is not None
        machines = self._open(configuration, found)
        self._prepared[name] = _Prepared(configuration=configuration, plan=found, machines=machines)

    def make(self, number: int, say: Callable[[str], None]) -> Controller:
        """Return the controller of the pool of a manager, which is prepared if it is not; errors as in ``prepare``."""
        name = managers.names(self._database).get(number, "")
        if name not in self._prepared:
            self.prepare(name)
        one = self._prepared[name]
        provider = provider_of(one.configuration)
        return Controller(
            self._database,
            one.machines,
            LedgerJobState(self._database, number, slots_per_task=slots_per_task(one.configuration)),
            name=machine_name(one.configuration.settings.job_id, self._database),
            offers=one.plan.choice.ranked,
            limits=pool_limits(one.configuration, pool_need(one.configuration, one.plan.estimate.tasks)),
            say=say,
            can_queue=provider.can_queue,
            is_batch_system=provider.batch_jobs(one.configuration) is not None,
            poll_seconds=provider.poll_seconds,
            failures_since=self._failures_since,
            manager_id=number,
        )

    def _open(self, configuration: Configuration, found: Plan) -> Machines:
        script = None
        if provider_of(configuration).code_sources:
            script = self._delivery.deliver(configuration, found.choice.ranked)
        machines = open_machines(configuration, self._database, script=script)
        errors = machines.preflight()
        if errors:
            of_pool = f" of manager {configuration.manager}" if configuration.manager else ""
            raise CommandError(
                f"Machines{of_pool} cannot be launched yet:\n" + "\n".join(f"  - {one}" for one in errors)
            )
        return machines


def _rounded_up(hours: float) -> float:
    return math.ceil(hours * 100) / 100


def of_manager(configuration: Configuration, name: str) -> Configuration:
    """Return the settings of a manager; empty for the default one, whose settings these are."""
    return configuration.of_manager(name) if name else configuration
