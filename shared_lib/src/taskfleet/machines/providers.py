"""The provider that the settings name."""

import os
import re
import sys

from taskfleet.errors import CommandError
from taskfleet.machines import Machines
from taskfleet.processes import hostname
from taskfleet.settings import Configuration
from taskfleet.settings.fields import POOL_GROUPS, describe

#: Names of machines begin with the job's; providers allow 63 characters, of which order, number and chance take the rest.
MOST_NAME = 30


def open_machines(configuration: Configuration) -> Machines:
    """Open the provider for the job's machines; nothing is asked of it yet.

    Args:
        configuration: The settings.

    Raises:
        CommandError: Something is missing in the settings.
    """
    provider = configuration.pool.provider
    if provider == "local":
        return _local(configuration)
    raise CommandError(f"PROVIDER={provider} is not there yet.")


def machine_name(job_id: str) -> str:
    """Give what the names of a job's machines begin with: lower case, digits and hyphens, as all providers allow."""
    name = re.sub(r"[^a-z0-9]+", "-", job_id.lower()).strip("-")[:MOST_NAME].strip("-")
    return name if re.match(r"[a-z]", name) else f"job-{name}".strip("-")


def worker_environment(configuration: Configuration) -> dict[str, str]:
    """Give what a worker elsewhere needs in its environment: the user's own variables, and the job's settings that are not the defaults."""
    return configuration.exports | _worker_settings(configuration)


def _worker_settings(configuration: Configuration) -> dict[str, str]:
    of_pool = {field.name for field in describe() if field.group in POOL_GROUPS}
    return {name: text for name, text in configuration.texts.items() if name not in of_pool}


def _local(configuration: Configuration) -> Machines:
    if sys.platform == "win32":
        raise CommandError("PROVIDER=local needs Linux or macOS. On Windows: poe launch_worker")
    from taskfleet.machines.local import LocalMachines

    project = configuration.project
    script = project / "run.py"
    command = (
        [sys.executable, str(script)] if script.is_file() else [sys.executable, "-m", "taskfleet", "launch_worker"]
    )
    ledger = configuration.ledger_path
    return LocalMachines(
        ledger.with_name(f"{ledger.stem}.machines") / hostname(),
        zone=hostname(),
        command=command,
        project=project,
        environment={**configuration.exports, **os.environ, **_worker_settings(configuration)},
    )
