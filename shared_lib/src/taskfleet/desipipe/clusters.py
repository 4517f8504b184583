"""Workers of a manager as batch jobs of Slurm: as many as its tasks need, submitted and ended by ``spawn``."""

import os
import secrets
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from taskfleet.desipipe import places, resources
from taskfleet.errors import CommandError, UsageError
from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.machines import LaunchRequest, MachineState
from taskfleet.machines.choosing import Offer
from taskfleet.machines.slurm.provider import SlurmProvider
from taskfleet.pool.job_machines import machine_name
from taskfleet.pool.selection import choose_machines, find_catalogue, pool_need

#: How much of the end of a job's output is shown if its worker ended with an error.
SHOWN_CHARACTERS = 2000
#: How long to wait for the end of jobs, and how often to look: a worker that is cancelled ends within the cluster's KillWait.
END_SECONDS = 45.0
END_POLL_SECONDS = 2.0


class ClusterJobs:
    """The batch jobs of a manager.

    Args:
        path: The file of the queue.
        mid: The id of the manager.
        provider: Its provider's options.
        max_workers: How many workers it has at most.
        command: Starts the process that works for it.
        variables: The environment of this process.

    Raises:
        UsageError: The cluster cannot run such jobs.
    """

    def __init__(
        self,
        path: Path,
        mid: str,
        provider: Mapping[str, Any],
        *,
        max_workers: int,
        command: list[str],
        variables: Mapping[str, str],
    ) -> None:
        self._mid = mid
        self._provider = provider
        self._max_workers = max_workers
        self._shape = resources.job_shape(provider, max_workers)
        self._path = path
        self._configuration = places.configuration(path, PROVIDER="slurm", **_pool_settings(provider, self._shape))
        self._command, self._variables = command, variables
        self._opened: tuple[Any, Offer, str] | None = None
        self._slots = self._shape.workers * resources.processes(provider)
        self._alive: set[str] = set()
        self._ended: set[str] = set()

    def step(self, database: Database) -> None:
        """Submit jobs for the tasks that can run and have none.

        Raises:
            CommandError: A worker ended with an error.
            UsageError: The cluster cannot run such jobs.
        """
        runnable = managers.runnable(database).get(managers.number_of(database, self._mid), 0)
        if not runnable and self._opened is None:
            return
        machines, offer, run = self._open(database)
        for one in machines.list():
            if one.state in (MachineState.ENDED, MachineState.ENDING):
                self._alive.discard(one.instance_id)
                self._note_end(machines, one.instance_id, one.detail, has_ended=one.state is MachineState.ENDED)
            else:
                self._alive.add(one.instance_id)
        workers = min(runnable, self._max_workers)
        missing = -(-workers // self._shape.workers) - len(self._alive)
        if missing > 0:
            request = LaunchRequest(
                token=f"{run}-{secrets.token_hex(3)}",
                number=missing,
                offers=(replace(offer, slots=self._slots),),
                lifetime_seconds=self._configuration.pool.lifetime_hours * 3600,
            )
            found = machines.launch(request)
            self._alive |= {one.instance_id for one in found.launched}
            if found.failures and not self._alive:
                raise UsageError(found.failures[0].message)

    def end(self) -> None:
        """End the jobs; their files are deleted once they have ended, for which they are given a moment."""
        if self._opened is None:
            return
        machines, _, _ = self._opened
        machines.terminate(sorted(self._alive))
        deadline = time.monotonic() + END_SECONDS
        while any(machines.clear().values()) and time.monotonic() < deadline:
            time.sleep(END_POLL_SECONDS)

    def _open(self, database: Database) -> tuple[Any, Offer, str]:
        if self._opened is None:
            configuration = self._configuration
            run = f"{machine_name(configuration.settings.job_id, database)}-{self._mid[:6]}"
            catalogue = find_catalogue(configuration, now=0.0, refresh=False, on_stale=lambda _: None)
            best = choose_machines(pool_need(configuration, None), catalogue).best
            machines = SlurmProvider().open_with(
                configuration,
                run,
                command=self._command,
                variables=self._variables,
                more_options=_files(self._provider),
            )
            if obstacles := machines.preflight():
                raise UsageError(" ".join(obstacles))
            assert best is not None
            self._opened = machines, best, run
        return self._opened

    def _note_end(self, machines: Any, instance_id: str, detail: str, *, has_ended: bool) -> None:
        if instance_id in self._ended or not has_ended:
            return
        self._ended.add(instance_id)
        if "FAILED" in detail and "NODE" not in detail:
            end = (machines.console(instance_id) or "").strip()[-SHOWN_CHARACTERS:]
            raise CommandError(f"A worker of {self._path}, job {instance_id}, ended with an error ({detail}):\n{end}")


def command_of(order: str) -> list[str]:
    """Return the command of a worker with this order."""
    return [sys.executable, "-P", "-m", "taskfleet.desipipe.working", order]


def _pool_settings(provider: Mapping[str, Any], shape: resources.JobShape) -> dict[str, str]:
    """Return the settings of the pool for a provider."""
    found = resources.sbatch_settings(provider)
    return {
        "ACCOUNT": str(found["account"]),
        "CONSTRAINT": str(found["constraint"]),
        "QOS": str(found["qos"]),
        "EXCLUSIVE": "true",
        "NODES_PER_MACHINE": str(shape.nodes),
        "LIFETIME_HOURS": repr(resources.hours(provider)),
        "SLURM_OPTIONS": shlex.join(f"--{name}={value}" for name, value in found["kwargs"].items()),
    }


def _files(provider: Mapping[str, Any]) -> list[str]:
    """Return the options for sbatch that say where output goes; make the folders, without which Slurm ends jobs and says nothing."""
    options = []
    for name in ("output", "error"):
        if provider.get(name):
            path = os.path.abspath(str(provider[name]))
            if "%" not in os.path.dirname(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
            options.append(f"--{name}={path}")
    return options
