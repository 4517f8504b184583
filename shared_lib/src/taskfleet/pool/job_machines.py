"""The machines of a job at the provider of the settings."""

import hashlib
import re
from collections.abc import Callable

from taskfleet.errors import CommandError
from taskfleet.ledger import recording
from taskfleet.ledger.database import Database
from taskfleet.machines import LaunchRequest, Machines
from taskfleet.machines.provider import provider_of
from taskfleet.settings import Configuration

#: The length of the job's name in names of machines. Providers allow 63 characters in total; a hash, a number and a random part follow.
MAX_NAME = 30


def open_machines(
    configuration: Configuration, database: Database | None, *, script: Callable[[LaunchRequest], str] | None = None
) -> Machines:
    """Return the job's machines at their provider, without calling it.

    Args:
        configuration: The settings.
        database: The job's ledger; None for the machines of all jobs of this name.
        script: Returns the start-up script for a launch request; None if no machine is launched.

    Raises:
        SettingsError: A setting is missing.
    """
    run = "" if database is None else machine_name(configuration.settings.job_id, database)
    return provider_of(configuration).open(configuration, run=run, script=script or _no_script)


def machine_name(job_id: str, database: Database) -> str:
    """Return the prefix of the names of a job's machines: lower-case letters, digits and hyphens, unique to this ledger."""
    name = re.sub(r"[^a-z0-9]+", "-", job_id.lower()).strip("-")[:MAX_NAME].strip("-")
    name = name if re.match(r"[a-z]", name) else f"job-{name}".strip("-")
    return f"{name}-{hashlib.sha256(recording.token(database).encode()).hexdigest()[:5]}"


def _no_script(_: LaunchRequest) -> str:
    raise CommandError("This command does not launch machines.")
