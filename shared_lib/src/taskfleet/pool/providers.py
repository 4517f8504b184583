"""The provider that the settings name."""

import hashlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from taskfleet.errors import CommandError
from taskfleet.ledger import recording
from taskfleet.ledger.database import Database
from taskfleet.machines import Machines, Order
from taskfleet.machines.offers import google_project
from taskfleet.processes.identity import hostname
from taskfleet.settings import Configuration
from taskfleet.settings.declaring import POOL_GROUPS
from taskfleet.settings.describing import describe

#: Names of machines begin with the job's; providers allow 63 characters, of which the ledger's, number and chance take the rest.
MOST_NAME = 30


def open_machines(
    configuration: Configuration, database: Database | None, *, script: Callable[[Order], str] | None = None
) -> Machines:
    """Open the provider for the job's machines; nothing is asked of it yet.

    Args:
        configuration: The settings.
        database: The job's ledger; None for the machines of all jobs of this name.
        script: Makes the start-up script of an order's machines; None if none are started.

    Raises:
        CommandError: Something is missing in the settings.
    """
    settings, pool = configuration.settings, configuration.pool
    if pool.provider == "local":
        return _local(configuration)
    if not pool.regions:
        raise CommandError(f"REGIONS is not set: PROVIDER={pool.provider} needs to know where its machines are.")
    run = "" if database is None else machine_name(settings.job_id, database)
    script = script or _no_script
    if pool.provider == "aws":
        from taskfleet.machines.aws.machines import AwsMachines

        return AwsMachines(
            job_id=settings.job_id,
            run=run,
            regions=pool.regions,
            architecture=pool.architecture,
            script=script,
            image=pool.image,
            instance_profile=pool.instance_profile,
            security_groups=pool.security_groups,
            subnets=pool.subnets,
            key_name=pool.key_name,
            external_ip=pool.external_ip,
            boot_disk_iops=pool.boot_disk_iops,
            boot_disk_mibps=pool.boot_disk_mibps,
        )
    from taskfleet.machines.gcp.machines import GcpMachines

    return GcpMachines(
        project=google_project(pool.project_id),
        job_id=settings.job_id,
        run_name=run,
        regions=pool.regions,
        script=script,
        architecture=pool.architecture,
        image=pool.image,
        service_account=pool.service_account,
        network=pool.network,
        subnetwork=pool.subnetwork,
        external_ip=pool.external_ip,
    )


def machine_name(job_id: str, database: Database) -> str:
    """Give what the names of a job's machines begin with: lower case, digits and hyphens, and of this ledger alone."""
    name = re.sub(r"[^a-z0-9]+", "-", job_id.lower()).strip("-")[:MOST_NAME].strip("-")
    name = name if re.match(r"[a-z]", name) else f"job-{name}".strip("-")
    return f"{name}-{hashlib.sha256(recording.token(database).encode()).hexdigest()[:5]}"


def _no_script(_: Order) -> str:
    raise CommandError("No machine is started by this command.")


def worker_environment(configuration: Configuration) -> dict[str, str]:
    """Give what a worker elsewhere needs in its environment: the user's own variables, and the job's settings that are not the defaults."""
    return configuration.exports | _worker_settings(configuration)


def _worker_settings(configuration: Configuration) -> dict[str, str]:
    of_pool = {field.name for field in describe() if field.group in POOL_GROUPS}
    return {name: text for name, text in configuration.texts.items() if name not in of_pool}


def worker_command(project: Path) -> list[str]:
    """Give what runs a worker of a project on this computer."""
    script = project / "run.py"
    return [sys.executable, str(script)] if script.is_file() else [sys.executable, "-m", "taskfleet", "launch_worker"]


def environment_here(configuration: Configuration) -> dict[str, str]:
    """Give the whole environment in which a command on this computer means the same job, wherever its settings were set."""
    return {**configuration.exports, **os.environ, **_worker_settings(configuration)}


def _local(configuration: Configuration) -> Machines:
    if sys.platform == "win32":
        raise CommandError("PROVIDER=local needs Linux or macOS. On Windows: poe launch_worker")
    from taskfleet.machines.local.machines import LocalMachines

    project = configuration.project
    ledger = configuration.ledger_path
    return LocalMachines(
        ledger.with_name(f"{ledger.stem}.machines") / hostname(),
        zone=hostname(),
        command=worker_command(project),
        project=project,
        environment=environment_here(configuration),
    )
