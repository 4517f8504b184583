"""Slurm clusters as a provider of machines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from taskfleet.machines import BatchJobs, LaunchRequest, Machines, Preview
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.needs import Need, need_of
from taskfleet.machines.notice import Watcher
from taskfleet.machines.shared_files import SharedFilesProvider, machine_environment
from taskfleet.machines.user_scripts import read_script
from taskfleet.settings import Configuration
from taskfleet.settings.environment import end_command, worker_command
from taskfleet.settings.provider_fields import SlurmSettings

if TYPE_CHECKING:
    from taskfleet.machines.slurm.machines import SlurmMachines


class SlurmProvider(SharedFilesProvider):
    """See ``Provider``. Nodes share the file systems of the login node, so machines run the project where it is."""

    name: ClassVar[str] = "slurm"
    title: ClassVar[str] = "Slurm"
    needs_canary: ClassVar[bool] = False  # which would double the time in the queue
    can_queue: ClassVar[bool] = True
    machines_per_request: ClassVar[int] = 1000
    poll_seconds: ClassVar[float] = 2.0
    ending_poll_seconds: ClassVar[float] = 5.0

    def fit(self, need: Need) -> Need:
        """See ``Provider.fit``."""
        from taskfleet.machines.slurm.offers import slurm_need

        return slurm_need(need)

    def catalogue(self, configuration: Configuration, *, now: float) -> Catalogue:
        """See ``Provider.catalogue``."""
        from taskfleet.machines.slurm.commands import Slurm
        from taskfleet.machines.slurm.offers import slurm_catalogue
        from taskfleet.machines.slurm.partitions import read_partitions

        own = configuration.of(SlurmSettings)
        need = self.fit(need_of(configuration.pool, None))
        return slurm_catalogue(need, own, read_partitions(Slurm(own.cluster or "")), now)

    def open(self, configuration: Configuration, *, run: str, script: Callable[[LaunchRequest], str]) -> Machines:  # noqa: ARG002
        """See ``Provider.open``; the script is a batch script of this provider."""
        return self._open(configuration, run)

    def preview(self, configuration: Configuration, request: LaunchRequest) -> Preview:
        """See ``Provider.preview``."""
        from taskfleet.machines.slurm.commands import Slurm
        from taskfleet.machines.slurm.outlook import outlook

        machines = self._open(configuration, "")
        arguments, _ = machines.submission(replace(request, number=1))
        _, script = machines.submission(request)
        slurm = Slurm(configuration.of(SlurmSettings).cluster or "")
        return Preview(script=script, notes=outlook(slurm, request.offers[0], arguments))

    def _open(self, configuration: Configuration, run: str) -> "SlurmMachines":
        """Return the machines of one job; see ``Provider.open``."""
        command, variables = worker_command(configuration.project), machine_environment(configuration)
        return self.open_with(configuration, run, command=command, variables=variables)

    def open_with(
        self,
        configuration: Configuration,
        run: str,
        *,
        command: Sequence[str],
        variables: Mapping[str, str],
        more_options: Sequence[str] = (),
    ) -> "SlurmMachines":
        """Return the machines of one job, whose workers are started by a command with these variables; see ``open``."""
        from taskfleet.machines.slurm.commands import Slurm
        from taskfleet.machines.slurm.machines import SlurmJob, SlurmMachines
        from taskfleet.machines.slurm.preflight import find_obstacles
        from taskfleet.machines.slurm.script import batch_script, environment_script
        from taskfleet.machines.slurm.submissions import Submissions

        own, folder = configuration.of(SlurmSettings), _folder(configuration)
        options = (*_options(own), *more_options)
        slurm = Slurm(own.cluster or "")

        def scripts() -> dict[str, str]:
            pool, project = configuration.pool, configuration.project
            return {
                "before_worker": read_script("BEFORE_WORKER", pool.before_worker, project),
                "after_worker": read_script("AFTER_WORKER", pool.after_worker, project),
            }

        def make_script(request: LaunchRequest) -> str:
            offer = request.offers[0]
            return batch_script(
                token=request.token,
                folder=folder,
                project=configuration.project,
                command=command,
                lifetime_seconds=request.lifetime_seconds,
                instance_type=offer.instance_type,
                partition=offer.zone,
                at_end=() if request.at_once is None else end_command(),
                nodes=own.nodes_per_machine,
                **scripts(),
            )

        def make_environment(request: LaunchRequest) -> str:
            return environment_script({**variables, "SLOTS": str(request.offers[0].slots)})

        def find() -> Sequence[str]:
            scripts()  # which cannot be read, or have a wrong syntax
            need = self.fit(need_of(configuration.pool, None))
            return find_obstacles(configuration, slurm, options, need)

        job = SlurmJob(
            job_id=configuration.settings.job_id,
            run=run,
            project=configuration.project,
            options=options,
            script=make_script,
            environment=make_environment,
            is_exclusive=own.exclusive,
            nodes=own.nodes_per_machine,
            obstacles=find,
        )
        return SlurmMachines(job, slurm, Submissions(folder, run))

    def batch_jobs(self, configuration: Configuration) -> BatchJobs | None:
        """See ``Provider.batch_jobs``."""
        from taskfleet.machines.slurm.batch_jobs import SlurmBatchJobs
        from taskfleet.machines.slurm.commands import Slurm
        from taskfleet.machines.slurm.script import environment_script

        own, ledger = configuration.of(SlurmSettings), configuration.ledger_path
        named = {"partition": own.partition, "account": own.account, "qos": own.qos, "reservation": own.reservation}
        return SlurmBatchJobs(
            Slurm(own.cluster or ""),
            folder=_folder(configuration),
            output=ledger.with_name(f"{ledger.stem}.controller.log"),
            project=configuration.project,
            environment=environment_script(machine_environment(configuration)),
            options=(*(f"--{name}={value}" for name, value in named.items() if value), *own.controller_options),
            lifetime_seconds=configuration.pool.lifetime_hours * 3600,
        )

    def worker_hosts(self, configuration: Configuration) -> Sequence[str]:
        """See ``Provider.worker_hosts``; the nodes of all partitions that PARTITION names."""
        from taskfleet.machines.slurm.commands import Slurm

        own = configuration.of(SlurmSettings)
        partition = [f"--partition={own.partition}"] if own.partition else []
        text = Slurm(own.cluster or "").run("sinfo", ["--noheader", "--all", "--Node", "--format=%o", *partition])
        return sorted(set(text.split()))

    def watcher(self, address: str) -> Watcher | None:
        """See ``Provider.watcher``."""
        from taskfleet.machines.slurm.notice import SlurmWatcher

        return SlurmWatcher(address)


def _folder(configuration: Configuration) -> Path:
    """Return the folder for the files of batch jobs."""
    return configuration.ledger_path.with_name(f"{configuration.ledger_path.stem}.slurm")


def _options(own: SlurmSettings) -> tuple[str, ...]:
    """Return the options for sbatch from the settings, the user's own last."""
    named = {
        "account": own.account,
        "qos": own.qos,
        "constraint": own.constraint,
        "reservation": own.reservation,
        "gres": own.gres,
    }
    return (*(f"--{name}={value}" for name, value in named.items() if value), *own.slurm_options)
