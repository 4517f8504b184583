"""The machines of one job, at the provider that the settings name."""

import hashlib
import re
from collections.abc import Callable

from taskfleet.errors import CommandError
from taskfleet.ledger import recording
from taskfleet.ledger.database import Database
from taskfleet.machines import LaunchRequest, Machines
from taskfleet.machines.provider import provider_of
from taskfleet.settings import Configuration

#: Names of machines begin with the job's; providers allow 63 characters, of which the ledger's, number and chance take the rest.
MOST_NAME = 30


def open_machines(
    configuration: Configuration, database: Database | None, *, script: Callable[[LaunchRequest], str] | None = None
) -> Machines:
    """Open the provider for the job's machines; nothing is asked of it yet.

    Args:
        configuration: The settings.
        database: The job's ledger; None for the machines of all jobs of this name.
        script: Makes the start-up script of an order's machines; None if none are started.

    Raises:
        SettingsError: A setting is missing.
    """
    run = "" if database is None else machine_name(configuration.settings.job_id, database)
    return provider_of(configuration).open(configuration, run=run, script=script or _no_script)


def machine_name(job_id: str, database: Database) -> str:
    """Return what the names of a job's machines begin with: lower case, digits and hyphens, and of this ledger alone."""
    name = re.sub(r"[^a-z0-9]+", "-", job_id.lower()).strip("-")[:MOST_NAME].strip("-")
    name = name if re.match(r"[a-z]", name) else f"job-{name}".strip("-")
    return f"{name}-{hashlib.sha256(recording.token(database).encode()).hexdigest()[:5]}"


def _no_script(_: LaunchRequest) -> str:
    raise CommandError("No machine is started by this command.")
