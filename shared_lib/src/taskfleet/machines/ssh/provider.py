"""A few computers of one's own as a provider of machines."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from taskfleet.errors import SettingsError, UnreachableError, WrongSettingError
from taskfleet.machines import LaunchRequest, Machines
from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.needs import Need, need_of
from taskfleet.machines.notice import Watcher
from taskfleet.machines.shared_files import SharedFilesProvider, need_of_known_computers
from taskfleet.machines.user_scripts import read_script
from taskfleet.processes.identity import MANAGER_VARIABLE
from taskfleet.settings import Configuration
from taskfleet.settings.environment import from_files, worker_command, worker_environment
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.settings.provider_fields import SshSettings


class SshProvider(SharedFilesProvider):
    """See ``Provider``.

    With ``QUEUE_URL=ledger`` or ``server``, hosts have to share the project's folder, and use it; otherwise they get a bundle.
    """

    name: ClassVar[str] = "ssh"
    title: ClassVar[str] = "Computers over ssh"
    needs_canary: ClassVar[bool] = False  # nothing is paid for, and computers differ
    can_queue: ClassVar[bool] = False
    machines_per_request: ClassVar[int] = 20
    poll_seconds: ClassVar[float] = 5.0
    ending_poll_seconds: ClassVar[float] = 1.0
    code_sources: ClassVar[tuple[str, ...]] = ("bundle",)
    example_queue_url: ClassVar[str] = "postgresql://SERVER/DATABASE"

    def check(self, configuration: Configuration) -> None:
        """See ``Provider.check``."""
        if not configuration.of(SshSettings).hosts:
            raise SettingsError(
                "PROVIDER=ssh needs HOSTS in config/pool.env: the computers to use, as for ssh, such as HOSTS=ws1 me@ws2 ws3:8."
            )

    def fit(self, need: Need) -> Need:
        """See ``Provider.fit``."""
        return need_of_known_computers(need)

    def catalogue(self, configuration: Configuration, *, now: float) -> Catalogue:
        """See ``Provider.catalogue``."""
        from taskfleet.machines.ssh.checks import check_hosts, report_silent
        from taskfleet.machines.ssh.offers import ssh_catalogue

        found = check_hosts(configuration)
        if found.obstacles:
            lines = "\n".join(f"  - {one}" for one in found.obstacles)
            raise WrongSettingError(
                f"HOSTS in config/pool.env: not all hosts can be used yet. Correct this, or remove them from HOSTS:\n{lines}",
                setting="HOSTS",
            )
        report_silent(found, configuration)
        if not found.facts:
            raise UnreachableError("No host in HOSTS answers. Is this computer's network up?")
        need = self.fit(need_of(configuration.pool, None))
        return ssh_catalogue(need, configuration.of(SshSettings).hosts, found.facts, now)

    def open(self, configuration: Configuration, *, run: str, script: Callable[[LaunchRequest], str]) -> Machines:
        """See ``Provider.open``."""
        from taskfleet.machines.ssh.calls import Ssh
        from taskfleet.machines.ssh.checks import check_hosts, uses_project
        from taskfleet.machines.ssh.machines import SshJob, SshMachines
        from taskfleet.machines.ssh.script import scripts

        self.check(configuration)
        own, pool, project = configuration.of(SshSettings), configuration.pool, configuration.project
        in_place = uses_project(configuration)
        manager = configuration.manager or DEFAULT_MANAGER

        def make_scripts() -> Mapping[str, str]:
            return scripts(
                project=project if in_place else None,
                command=worker_command(project),
                before_worker=read_script("BEFORE_WORKER", pool.before_worker, project),
                after_worker=read_script("AFTER_WORKER", pool.after_worker, project),
            )

        def find() -> Sequence[str]:
            make_scripts()  # which cannot be read, or have a wrong syntax
            return check_hosts(configuration).obstacles

        job = SshJob(
            job_id=configuration.settings.job_id,
            run=run,
            pool=f"{run} {manager}",
            hosts=own.hosts,
            nice=own.nice,
            environment={
                **worker_environment(configuration),
                **from_files(configuration, "SLOTS"),
                MANAGER_VARIABLE: manager,
            },
            scripts=make_scripts,
            bundle=lambda request: None if in_place else Path(script(request)),
            obstacles=find,
        )
        return SshMachines(job, Ssh(own.ssh_options))

    def worker_hosts(self, configuration: Configuration) -> Sequence[str]:
        """See ``Provider.worker_hosts``."""
        from taskfleet.machines.ssh.calls import Ssh

        own = configuration.of(SshSettings)
        return [Ssh(own.ssh_options).address(host) for host in own.hosts]

    def watcher(self, address: str) -> Watcher | None:  # noqa: ARG002
        """See ``Provider.watcher``."""
        return None
