"""The machines of a job at the providers of its pools."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from taskfleet.errors import CommandError
from taskfleet.invocation import poe
from taskfleet.ledger import managers, recording
from taskfleet.ledger.database import Database
from taskfleet.machines import LaunchRequest, Machine, Machines
from taskfleet.machines.provider import Provider, provider_of
from taskfleet.pool import records
from taskfleet.settings import Configuration
from taskfleet.settings.manager_files import managers_with_pool_file

#: The length of the job's name in names of machines. Providers allow 63 characters in total; a hash, a number and a random part follow.
MAX_NAME = 30


def open_machines(
    configuration: Configuration, database: Database | None, *, script: Callable[[LaunchRequest], str] | None = None
) -> Machines:
    """Return the job's machines at the provider of the settings, without calling it.

    Args:
        configuration: The settings.
        database: The job's ledger; None for the machines of all jobs of this name.
        script: Returns the start-up script for a launch request; None if no machine is launched.

    Raises:
        SettingsError: A setting is missing.
    """
    run = "" if database is None else machine_name(configuration.settings.job_id, database)
    return provider_of(configuration).open(configuration, run=run, script=script or _no_script)


class JobMachines:
    """All machines of a job, whatever their pool; the methods are as in ``Machines``.

    Args:
        by_manager: The job's machines at the provider of each pool, by the number of its manager. Those of the pools that share a provider
            and its settings are the same object, or list the same machines.
    """

    def __init__(self, by_manager: Mapping[int, Machines]) -> None:
        self.by_manager = by_manager
        self.all = list({id(one): one for one in by_manager.values()}.values())

    def list(self) -> Sequence[Machine]:
        """Return all existing machines of the job."""
        return list({one.instance_id: one for machines in self.all for one in machines.list()}.values())

    def console(self, instance_id: str) -> str | None:
        """Return the console output of a machine."""
        found = (machines.console(instance_id) for machines in self.all)
        return next((text for text in found if text is not None), None)

    def clear(self) -> Mapping[str, int]:
        """Delete all other resources of the job."""
        left: Counter[str] = Counter()
        for machines in self.all:
            left.update(machines.clear())
        return left


def open_all(configuration: Configuration, database: Database | None) -> JobMachines:
    """Return the job's machines at the providers of all pools that it may have had, without calling them.

    Args:
        configuration: The settings of the default manager.
        database: The job's ledger; None for the machines of all jobs of this name.

    Raises:
        SettingsError: A setting is missing, or the file of a manager with a pool of its own is invalid.
    """
    first = open_machines(configuration, database)
    known = {} if database is None else managers.names(database)
    found = {0: first, **dict.fromkeys(known, first)}
    numbers = {name: number for number, name in known.items()}
    for one in own_configurations(configuration, known.values()):
        number = numbers.get(one.manager, -len(found))  # negative for managers that the ledger does not have
        found[number] = open_machines(one, database)
    return JobMachines(found)


def check_providers(machines: JobMachines, database: Database) -> None:
    """Check that the pools of all machines that may exist still have the providers at which these were launched.

    Raises:
        CommandError: A pool has another one, which does not list the machines.
    """
    names = {0: "", **managers.names(database)}
    for one in records.open_machines(database):
        name, provider = names.get(one.manager_id, ""), machines.by_manager[one.manager_id].name
        if one.provider != provider:
            file = f"config/pool.{name}.env" if name else "config/pool.env"
            raise CommandError(
                f"Machine {one.instance_id or one.token} of PROVIDER={one.provider} may still run, and its pool has PROVIDER={provider} "
                f"now. Set PROVIDER={one.provider} in {file} again and run {poe('teardown')}."
            )


def own_configurations(configuration: Configuration, known: Iterable[str] = ()) -> list[Configuration]:
    """Return the settings of the managers whose pools have settings of their own, those of known managers included.

    Raises:
        SettingsError: The settings of a manager are invalid.
    """
    return [configuration.of_manager(name) for name in managers_with_pool_file(configuration.project, known)]


def providers_of(configuration: Configuration) -> list[Provider]:
    """Return the providers of all pools that the job may have."""
    return [provider_of(one) for one in (configuration, *own_configurations(configuration))]


def machine_name(job_id: str, database: Database) -> str:
    """Return the prefix of the names of a job's machines: lower-case letters, digits and hyphens, unique to this ledger."""
    name = re.sub(r"[^a-z0-9]+", "-", job_id.lower()).strip("-")[:MAX_NAME].strip("-")
    name = name if re.match(r"[a-z]", name) else f"job-{name}".strip("-")
    return f"{name}-{hashlib.sha256(recording.token(database).encode()).hexdigest()[:5]}"


def _no_script(_: LaunchRequest) -> str:
    raise CommandError("This command does not launch machines.")
