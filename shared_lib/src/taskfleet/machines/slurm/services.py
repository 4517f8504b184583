"""A batch job that runs one command of the project for as long as a pool may need it, such as the queue's server."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from taskfleet.files import write_atomically
from taskfleet.machines.shared_files import machine_environment
from taskfleet.machines.slurm.commands import Slurm
from taskfleet.machines.slurm.offers import partitions_of
from taskfleet.machines.slurm.partitions import read_partitions
from taskfleet.machines.slurm.script import environment_script
from taskfleet.settings import Configuration
from taskfleet.settings.provider_fields import SlurmSettings

_MEMORY_MIB = 4096
#: How long before its time limit it is told to end.
_NOTICE_SECONDS = 60


class ServiceJob:
    """The batch job of a service of a project, of which there is at most one at a time.

    Args:
        configuration: The settings.
        name: The name of the job, unique for the project and the service.
    """

    def __init__(self, configuration: Configuration, name: str) -> None:
        self._configuration = configuration
        self._own = configuration.of(SlurmSettings)
        self._slurm = Slurm(self._own.cluster or "")
        self._name = name

    def find(self) -> tuple[str, str] | None:
        """Return the ID of the job, and its state with Slurm's reason; None if there is none."""
        states = "--states=PENDING,CONFIGURING,RUNNING,SUSPENDED"
        arguments = ["--me", "--noheader", "--all", f"--name={self._name}", states, "--format=%i %T (%r)"]
        for line in self._slurm.run("squeue", arguments).splitlines():
            job_id, _, state = line.strip().partition(" ")
            return job_id, state
        return None

    def submit(self, command: Sequence[str], *, hours: float, files: Path, environment: Mapping[str, str]) -> str:
        """Submit the job and return its ID.

        Args:
            command: The command; it ends when it gets SIGTERM.
            hours: The time limit.
            files: The path of its files, without their suffix.
            environment: Variables beside those of the settings.

        Raises:
            UnreachableError: The controller did not answer; the job may have been submitted.
            ProviderError: A setting is wrong, or the job is rejected.
        """
        own = self._own
        script = files.with_suffix(".env")
        variables = {**machine_environment(self._configuration), **environment}
        write_atomically(script, environment_script(variables))
        lines = [
            "#!/bin/bash",
            f"source {shlex.quote(str(script))} || exit 1",
            f"cd {shlex.quote(str(self._configuration.project))} || exit 1",
            f"exec {shlex.join(command)}",
            "",
        ]
        named = {"account": own.account, "qos": own.qos, "constraint": own.constraint, "reservation": own.reservation}
        partitions = partitions_of(own, read_partitions(self._slurm))
        arguments = [
            "--parsable",
            f"--job-name={self._name}",
            "--dependency=singleton",
            f"--partition={','.join(one.name for one in partitions)}",
            "--ntasks=1",
            "--cpus-per-task=1",
            f"--mem={_MEMORY_MIB}M",
            f"--time={max(2, math.ceil(hours * 60))}",
            f"--signal=B:TERM@{_NOTICE_SECONDS}",
            "--no-requeue",
            "--export=NONE",
            f"--chdir={self._configuration.project}",
            f"--output={files.with_suffix('.out')}",
            *(f"--{name}={value}" for name, value in named.items() if value),
            *own.slurm_options,
        ]
        return self._slurm.submit(arguments, "\n".join(lines))

    def cancel(self, job_id: str) -> None:
        """Tell the command to end; kill it after the cluster's KillWait."""
        self._slurm.run("scancel", [job_id])
