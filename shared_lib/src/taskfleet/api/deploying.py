"""Run pools of machines until all tasks of a job are done."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from taskfleet.api.leaving import batch_jobs, check_leaving, most_machines
from taskfleet.api.machines import terminate_machines
from taskfleet.api.planning import Plan, warn
from taskfleet.api.pool_making import PoolMaker, check_machines, of_manager
from taskfleet.api.queue import open_job
from taskfleet.errors import CommandError, LedgerError, UnusableLedgerError
from taskfleet.invocation import poe
from taskfleet.ledger import managers
from taskfleet.machines import EndReason
from taskfleet.pool import control, records
from taskfleet.pool.deployment import Deployment, Ending
from taskfleet.pool.job_machines import check_providers, machine_name, open_all, providers_of
from taskfleet.pool.pools import Pools
from taskfleet.pool.records import End
from taskfleet.pool.teardown import clear_code, reconcile
from taskfleet.processes.identity import CONTROLLER_VARIABLE, identity, pid_of
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import JobQueues, check_queue
from taskfleet.settings import Configuration
from taskfleet.text import counted
from taskfleet.watch.dump import dump_tasks
from taskfleet.watch.monitor import Monitor
from taskfleet.watch.progress import Progress
from taskfleet.watch.sending import SendingDisplay
from taskfleet.watch.status import Status, gather

#: How long a controller waits for its predecessor: longer than a dead one keeps others out.
SUCCESSION_SECONDS = control.ABSENT_SECONDS + 30.0
#: How long the pool waits for the queue before it does other things.
PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """How the run of the pools ended."""

    ending: Ending
    status: Status
    reason: str
    """The reason why it gave up; empty if it did not."""
    last_output: str
    """The last lines printed by a machine that had to be replaced; may be empty."""


def _terminate() -> Ending | None:
    return Ending.TERMINATED


def _plainly(action: Callable[[], None]) -> None:
    action()


class Pool:
    """The pools of a job, one for each manager with tasks, that can be started, for a ``with`` statement.

    Entering it opens the ledger, checks for machines of earlier runs, uploads the code, and runs the providers' preflight checks. No
    machine is launched before ``run``. Pools of other managers than those planned are added when these have tasks that can run.

    Args:
        configuration: The settings of the default manager.
        plans: The choices of machines, by the names of the managers, see ``planning.plans``; or that of the default one.
        take_over: Whether to take over the machines of an earlier run.
        say: Called with messages for the user.
    """

    def __init__(
        self,
        configuration: Configuration,
        plans: Mapping[str, Plan] | Plan,
        *,
        take_over: bool = False,
        say: Callable[[str], None] = warn,
    ) -> None:
        check_machines(configuration)
        self._configuration = configuration
        self._plans = {"": plans} if isinstance(plans, Plan) else plans
        self._take_over = take_over
        self._say = say
        self._providers = providers_of(configuration)
        self._queues: JobQueues | None = None

    def __enter__(self) -> Self:
        """Prepare the pools.

        Raises:
            CommandError: Machines of an earlier run exist, or a preflight check failed.
            LedgerError: There is no ledger of the job.
        """
        self._database = open_job(self._configuration)
        try:
            self._machines = open_all(self._configuration, self._database)
            check_providers(self._machines, self._database)
            if not self._take_over:
                self._refuse_earlier_machines()
            self._maker = PoolMaker(self._configuration, self._database, self._say)
            for name, plan in self._plans.items():
                self._maker.prepare(name, plan)
        except BaseException:
            self._database.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the ledger."""
        self._database.close()

    def run(
        self,
        *,
        ask: Callable[[], Ending | None] = _terminate,
        protect: Callable[[Callable[[], None]], None] = _plainly,
    ) -> PoolReport:
        """Launch machines and manage them until all tasks are done. Progress goes to standard error.

        Args:
            ask: Called on KeyboardInterrupt; returns what happens to the machines, or None to continue. They are terminated by default.
            protect: Runs the action that terminates the machines so that an interruption does not leave it half done.

        Raises:
            CommandError: Another controller manages this job.
            UnusableLedgerError: The ledger was damaged, deleted or replaced; all machines are terminated.
        """
        database, settings = self._database, self._configuration.settings
        me = identity()
        self._acquire(me)
        progress = Progress(database, every_seconds=settings.progress_seconds, verbose=settings.verbose)

        def close_and_ask() -> Ending | None:
            progress.close(time.time())
            return ask()

        with ExitStack() as stack:
            stack.callback(self._release, me)
            check_queue(database, self._configuration)
            monitor = self._monitor(stack, progress)
            deployment = self._deployment(progress, monitor, close_and_ask)
            try:
                ending = deployment.run()
            except UnusableLedgerError as error:
                progress.say(f"{error} Terminating all machines, because they cannot be managed without the ledger.")
                protect(self._terminate_listed)
                raise
            progress.close(time.time())
            self._finish(deployment, monitor, ending, protect)
            return PoolReport(
                ending=ending,
                status=gather(database, time.time()),
                reason=deployment.give_up_reason,
                last_output=deployment.last_console,
            )

    def leave(self) -> int:
        """Launch machines that need no controller: they run one after the other, and end with the job. Requires ``Provider.batch_jobs``.

        Returns:
            The number of machines, those that run later included.

        Raises:
            CommandError: Another controller manages this job, none is launched, or the job needs one; see ``check_leaving``.
            UnreachableError: A provider does not answer; machines may have been launched.
        """
        database, me = self._database, identity()
        check_leaving(database, self._configuration)
        with ExitStack() as stack:
            self._acquire(me)
            stack.callback(self._release, me)
            check_queue(database, self._configuration)
            if is_remote(self._configuration.settings.queue_url):
                self._send()
            numbers = {name: number for number, name in managers.names(database).items()} | {"": 0}
            for left, (name, plan) in zip(reversed(range(len(self._plans))), self._plans.items(), strict=True):
                controller = self._maker.make(numbers[name], self._say)
                found = controller.leave(time.time(), self._most_machines(name, plan), other_claims=left)
                if found.hold is not None:
                    raise CommandError(f"No machine is launched: {found.hold.text}.")
        launched = len(records.open_machines(database))
        if not launched:
            raise CommandError("No machine was launched; see above.")
        return launched

    def submit(self, command: Sequence[str]) -> str:
        """Submit a batch job that runs the controller; return its ID. Arguments and errors as in ``BatchJobs.submit_controller``."""
        if other := control.running(self._database, time.time()):
            raise _managed_by(other)
        name = machine_name(self._configuration.settings.job_id, self._database)
        return batch_jobs(self._configuration).submit_controller(name, command)

    def _most_machines(self, name: str, plan: Plan) -> int:
        own = of_manager(self._configuration, name)
        return min(batch_jobs(own).most_machines, most_machines(plan, own.pool.lifetime_hours))

    def _acquire(self, me: str) -> None:
        """Become the controller; one that is a batch job waits for its predecessor, which may have been killed."""
        deadline = time.monotonic() + (SUCCESSION_SECONDS if CONTROLLER_VARIABLE in os.environ else 0.0)
        while (other := control.acquire(self._database, me, time.time())) is not None:
            if time.monotonic() >= deadline:
                raise _managed_by(other)
            time.sleep(1.0)

    def _release(self, me: str) -> None:
        with suppress(LedgerError):
            control.release(self._database, me)

    def _terminate_listed(self) -> None:
        """Terminate all machines that the provider lists, without the ledger."""
        terminate_machines(self._configuration, self._machines, None, EndReason.TERMINATED, self._say)

    def _refuse_earlier_machines(self) -> None:
        if other := control.running(self._database, time.time()):
            raise _managed_by(other)
        if not records.open_machines(self._database):
            return
        reconcile(self._machines, self._database)
        earlier = records.open_machines(self._database)
        if earlier:
            raise CommandError(
                f"{counted(len(earlier), 'machine')} of an earlier run may still be running. {poe('deploy_pool --continue')} takes over "
                f"the pool; {poe('machines')} lists them; {poe('teardown')} terminates them."
            )

    def _monitor(self, stack: ExitStack, progress: Progress) -> Monitor | None:
        if not is_remote(self._configuration.settings.queue_url):
            return None
        self._send()
        self._queues = stack.enter_context(
            JobQueues(self._configuration, say=progress.say, waits=False, patience_seconds=PATIENCE_SECONDS)
        )
        is_graph = self._database.value("SELECT EXISTS (SELECT 1 FROM function)")
        is_elsewhere = any(one.code_sources for one in self._providers)
        hint = folder_hint(self._configuration.results_path) if is_graph and is_elsewhere else ""
        if hint:
            progress.say(hint)
        monitor = Monitor(self._database, self._configuration, self._queues)
        stack.callback(monitor.close)
        return monitor

    def _send(self) -> None:
        with SendingDisplay() as display, JobQueues(self._configuration, say=display.say) as queues:
            queues.require()
            queues.send_unsent(self._database, display)

    def _deployment(self, progress: Progress, monitor: Monitor | None, ask: Callable[[], Ending | None]) -> Deployment:
        database = self._database
        pools = Pools(database, self._maker.make, needed=lambda: managers.runnable(database), say=progress.say)
        of_machines = {one.manager_id for one in records.open_machines(database)}
        numbers = {name: number for number, name in managers.names(database).items()} | {"": 0}
        for number in sorted(of_machines | {numbers[name] for name in self._plans}):
            pools.add(number)
        return Deployment(
            database,
            pools,
            self._machines,
            record_events=None if monitor is None else monitor.step,
            progress=progress,
            on_interrupt=ask,
            poll_seconds=max(one.poll_seconds for one in self._providers),
            ending_poll_seconds=max(one.ending_poll_seconds for one in self._providers),
            empty_lists_to_confirm=max(one.empty_lists_to_confirm for one in self._providers),
        )

    def _finish(
        self,
        deployment: Deployment,
        monitor: Monitor | None,
        ending: Ending,
        protect: Callable[[Callable[[], None]], None],
    ) -> None:
        ends = {
            Ending.DONE: End(EndReason.DONE),
            Ending.GAVE_UP: End(EndReason.GAVE_UP, deployment.give_up_reason),
            Ending.TERMINATED: End(EndReason.TERMINATED),
        }
        if ending in ends:
            protect(lambda: deployment.terminate_all(ends[ending], lambda: clear_code(self._configuration)))
            if monitor is not None and self._queues is not None:
                self._queues.outages.waits = True
                while monitor.step():
                    pass
                if ending is Ending.DONE:
                    self._queues.delete(self._database)


def folder_hint(results_path: str) -> str:
    """Return a hint for a graph whose large values have no place that machines of a cloud can reach; empty if they have one."""
    if "://" in results_path:
        return ""
    what = f"RESULTS_PATH={results_path} is a folder" if results_path else "RESULTS_PATH is not set"
    return (
        f"{what}: unless all machines share a folder, tasks with values of more than 64 KiB fail. Set RESULTS_PATH to a bucket "
        "(s3://…, gs://…)."
    )


def dump(configuration: Configuration, folder: Path) -> list[tuple[Path, int]]:
    """Write the tasks into files, one for each state; return each file with its number of tasks."""
    with closing(open_job(configuration, read_only=True)) as database:
        return dump_tasks(database, folder, configuration.settings.job_id)


def _managed_by(controller: str) -> CommandError:
    return CommandError(
        f"Another poe deploy_pool manages this job (process {pid_of(controller)}). {poe('status --watch')} shows its progress."
    )
