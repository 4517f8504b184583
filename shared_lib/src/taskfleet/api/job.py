"""``Job``: everything that the commands do, from Python."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self

from taskfleet.errors import SettingsError
from taskfleet.settings import Configuration, describe, read_configuration
from taskfleet.settings.reader import did_you_mean
from taskfleet.tasks import FAILURE_KINDS, JSON, Lease, State

if TYPE_CHECKING:
    from taskfleet.api.calibrating import Calibration
    from taskfleet.api.deploying import PoolReport
    from taskfleet.api.inserting import FilterTasks, Source
    from taskfleet.api.machines import MachineList
    from taskfleet.api.planning import Plan
    from taskfleet.api.working import WorkReport
    from taskfleet.ledger.cancelling import CancelReport
    from taskfleet.ledger.checks import Check
    from taskfleet.ledger.insertion import InsertReport
    from taskfleet.ledger.queries import TaskLine, TaskRecord
    from taskfleet.watch.status import Status

#: The types of a setting's value; None means its default, also if the file sets it.
Setting = str | int | float | bool | Sequence[str] | None


class Job:
    """A job of a project: its tasks, queue and machines. ``Job.open`` returns one; opening a job creates nothing.

    Each method opens the ledger and closes it again, so a ``Job`` holds no resources between calls. Errors that the user can correct are
    raised as ``TaskfleetError``; its message is the one that the command prints.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration

    @classmethod
    def open(
        cls,
        job_id: str | None = None,
        *,
        project: str | PathLike[str] | None = None,
        env_file: str | PathLike[str] | None = None,
        **settings: Setting,
    ) -> Self:
        """Read the settings of a job.

        Args:
            job_id: The name of the job; None for the setting JOB_ID.
            project: The project's folder; None for the nearest one, from the current folder upwards, that has ``config/task.env``.
            env_file: A file of settings to use instead of ``config/task.env``. If neither exists, all settings have their defaults.
            **settings: Settings by their names in lower case, such as ``slots=4``. They override the environment, which overrides the
                file.

        Raises:
            SettingsError: A setting is unknown or invalid.
        """
        if job_id is not None:
            settings["job_id"] = job_id
        fields = {field.name.lower(): field.name for field in describe()}
        unknown = [name for name in settings if name not in fields]
        if unknown:
            raise SettingsError(
                "\n".join(f"Unknown setting {name!r}.{did_you_mean(name, list(fields))}" for name in unknown)
            )
        texts = {fields[name]: _text(value) for name, value in settings.items()}
        start = None if project is None else Path(project)
        file = None if env_file is None else str(env_file)
        return cls(read_configuration(keywords=texts, env_file=file, start=start, needs_file=False))

    @property
    def job_id(self) -> str:
        """The job's name."""
        return self.configuration.settings.job_id

    def __repr__(self) -> str:
        """Return the job's name and the path of its ledger."""
        return f"Job({self.job_id!r}, ledger={str(self.configuration.ledger_path)!r})"

    # Tasks

    def insert(self, source: "Source | None" = None, *, filter_tasks: "FilterTasks | None" = None) -> "InsertReport":
        """Insert all tasks, or none if a row is invalid; see ``api.inserting.insert``."""
        from taskfleet.api import inserting

        return inserting.insert(self.configuration, source, filter_tasks=filter_tasks)

    def work(
        self,
        args: Sequence[str] = (),
        *,
        before_fn: "Callable[[Lease], object] | None" = None,
        after_fn: "Callable[[Lease], object] | None" = None,
        stop_fn: Callable[..., bool] | None = None,
    ) -> "WorkReport":
        """Run a worker in this process until no tasks are left; see ``api.working.work``, and ``worker.hooks.Hooks`` for the functions.

        It runs tasks of the default manager; those of other managers need processes of their own: ``poe launch_worker --manager NAME``.
        Call it in the main thread; it replaces the signal handlers while it runs.
        """
        from taskfleet.api import working
        from taskfleet.worker.hooks import make_hooks

        return working.work(self.configuration, args, hooks=make_hooks(before_fn, after_fn, stop_fn))

    def block_until_empty(self, interval_sec: float = 2.0) -> None:
        """Wait until no task is pending, waiting or running; see ``api.waiting.block_until_empty``."""
        from taskfleet.api import waiting

        waiting.block_until_empty(self.configuration, interval_sec)

    def rezero(self) -> None:
        """Count inserted and completed tasks from zero again, as shown by ``poe status``; tasks and results stay."""
        from taskfleet.api import queue

        queue.rezero(self.configuration)

    def monitor(
        self, *, auto_complete: bool = True, on_event: Callable[[Mapping[str, JSON]], None] | None = None
    ) -> "Status":
        """Record the events of remote workers until all tasks are done; see ``api.monitoring.monitor``."""
        from taskfleet.api import monitoring

        return monitoring.monitor(self.configuration, auto_complete=auto_complete, on_event=on_event)

    def status(self) -> "Status":
        """Return the job's status at this instant."""
        from taskfleet.api import looking

        return looking.status(self.configuration)

    def tasks(
        self, *, state: str | None = None, kind: str | None = None, limit: int | None = None
    ) -> "Sequence[TaskLine]":
        """Return tasks in table order.

        Args:
            state: Only tasks in this state: waiting, pending, running, succeeded, failed or killed.
            kind: Only tasks with this kind of failure: exception, timeout, exit, memory, lost or upstream.
            limit: The maximum number of tasks; None for all.
        """
        from taskfleet.api import looking

        states = {one.word: one for one in State}
        kinds = {one.word: one for one in FAILURE_KINDS}
        chosen = None if state is None else states[_known(state, "state", states)]
        lines, _ = looking.tasks(
            self.configuration,
            state=chosen,
            kind=None if kind is None else kinds[_known(kind, "kind", kinds)],
            limit=limit,
        )
        return lines

    def task(self, task_id: str) -> "TaskRecord":
        """Return the details of one task, with all its attempts."""
        from taskfleet.api import looking

        return looking.task(self.configuration, task_id)

    def write_results(self, path: str | PathLike[str], *, escape_formulas: bool = False) -> int:
        """Write the table joined with results and failures; return the number of rows. The suffix determines the file format.

        Args:
            path: The file.
            escape_formulas: Whether texts in CSV that a spreadsheet would take for formulas get an apostrophe before them.
        """
        from taskfleet.api import looking

        rows, _ = looking.write_results(self.configuration, Path(path), escape_formulas=escape_formulas)
        return rows

    def check_ledger(self) -> "list[Check]":
        """Verify the ledger, without changing it; return the result of each check."""
        from taskfleet.api import checking

        return list(checking.check_ledger(self.configuration))

    def explain(self, what: str | None = None) -> list[str]:
        """Return the reasons why a task (by its ID), the pool (``"pool"``) or the job (None) is stuck, and what to change."""
        from taskfleet.api import looking

        return looking.explain(self.configuration, what)

    # The queue

    def retry(
        self,
        *task_ids: str,
        failed: bool = False,
        kinds: Sequence[str] = (),
        killed: bool = False,
        upstream: bool = False,
        with_descendants: bool = False,
    ) -> int:
        """Put failed or killed tasks back into the queue; return their number. Earlier attempts no longer count as retries.

        Args:
            *task_ids: Tasks to put back; IDs of other tasks, and unknown ones, are ignored.
            failed: All failed tasks.
            kinds: All tasks with one of these kinds of failure: exception, timeout, exit, memory, lost or upstream.
            killed: All killed tasks.
            upstream: Instead of these tasks, those whose failures are the causes of theirs.
            with_descendants: Also those of these tasks that succeeded; all tasks that depend on these are run again.
        """
        from taskfleet.api import queue

        known = {one.word: one for one in FAILURE_KINDS}
        chosen = FAILURE_KINDS if failed else [known[_known(one, "kind", known)] for one in kinds]
        return queue.retry(
            self.configuration,
            task_ids,
            kinds=chosen,
            killed=killed,
            upstream=upstream,
            with_descendants=with_descendants,
        )

    def cancel(
        self, *task_ids: str, all_tasks: bool = False, state: str | None = None, function: str | None = None
    ) -> "CancelReport":
        """Cancel tasks, also running ones; return what they were. See ``api.steering.cancel``.

        Args:
            *task_ids: Tasks to cancel.
            all_tasks: All tasks that have not ended.
            state: All tasks in this state: pending, waiting or running.
            function: All tasks of a graph that call this function.
        """
        from taskfleet.api import steering

        states = {one.word: (one,) for one in (State.PENDING, State.WAITING, State.RUNNING)}
        chosen = tuple(State) if all_tasks else () if state is None else states[_known(state, "state", states)]
        return steering.cancel(self.configuration, task_ids, states=chosen, function=function)

    def pause(self) -> bool:
        """Let no task start until ``resume``; return False if the job was paused already. See ``api.steering.set_paused``."""
        from taskfleet.api import steering

        return steering.set_paused(self.configuration, True)

    def resume(self) -> bool:
        """Let tasks start again; return False if the job was not paused."""
        from taskfleet.api import steering

        return steering.set_paused(self.configuration, False)

    def release(self) -> int:
        """Revoke all leases, including those of live workers; return the number of tasks that can be leased again."""
        from taskfleet.api import queue

        return queue.release(self.configuration)

    def queue(self) -> Mapping[str, JSON]:
        """Return the contents of the queue; see ``api.contents.contents``."""
        from taskfleet.api import contents

        return contents.contents(self.configuration)

    def purge(self) -> int:
        """Remove all pending and waiting tasks from the queue; return their number. Their state becomes ``killed``."""
        from taskfleet.api import queue

        return queue.purge(self.configuration)

    def move(self, queue_url: str) -> int:
        """Move all unfinished tasks to another queue; return the number of pending ones. Set QUEUE_URL afterwards."""
        from taskfleet.api import queue

        return queue.move(self.configuration, queue_url)

    def copy(self, queue_url: str) -> int:
        """Send all pending tasks to another service queue as well; return their number."""
        from taskfleet.api import queue

        return queue.copy(self.configuration, queue_url)

    def delete(self) -> None:
        """Delete the job: its queue, and its ledger with all results. Raise CommandError while workers are running.

        The folder of large results beside the ledger is deleted too; a folder or bucket in RESULTS_PATH stays.
        """
        from taskfleet.api import queue

        queue.check_delete(self.configuration)
        queue.delete(self.configuration)

    # Machines

    def plan(self, *, tasks: int | None = None, refresh: bool = False) -> "Plan | None":
        """Return a choice of machines without launching any; None if no tasks are left. See ``api.planning.plan``.

        In a job with managers, it is that of the default one; ``plans`` returns all.
        """
        from taskfleet.api import planning

        return planning.plan(self.configuration, tasks=tasks, refresh=refresh)

    def plans(self, *, refresh: bool = False) -> "dict[str, Plan]":
        """Return a choice of machines for each manager with tasks left, by its name; that of the default one is empty."""
        from taskfleet.api import planning

        return planning.plans(self.configuration, refresh=refresh)

    def calibrate(self, *, sample: int = 20) -> "Calibration":
        """Run a sample of the tasks on this computer; return its measurements and a plan for the remaining tasks."""
        from taskfleet.api import calibrating

        return calibrating.calibrate(self.configuration, sample=sample)

    def deploy(self, plan: "Plan | Mapping[str, Plan]", *, take_over: bool = False) -> "PoolReport":
        """Launch machines, replace those that fail, and terminate all when all tasks are done. Cloud machines cost money.

        Ctrl-C terminates all machines.

        Args:
            plan: The result of ``plan`` or ``plans``.
            take_over: Whether to take over the machines of an earlier run.
        """
        from taskfleet.api import deploying

        with deploying.Pool(self.configuration, plan, take_over=take_over) as pool:
            return pool.run()

    def machines(self, *, with_ended: bool = False) -> "MachineList":
        """Return the job's machines, from the provider's list and the ledger."""
        from taskfleet.api import machines

        return machines.machines(self.configuration, with_ended=with_ended)

    def stop(self) -> None:
        """Terminate all machines; running tasks return to the queue."""
        from taskfleet.api import machines

        machines.stop(self.configuration)

    def teardown(self) -> Mapping[str, int]:
        """Terminate all machines, delete their other resources, and return the remaining number of each kind of resource: 0."""
        from taskfleet.api import machines

        return machines.teardown(self.configuration)


def _text(value: Setting) -> str:
    """Return a setting as it would be written in a file."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else " ".join(value)


def _known(word: str, what: str, words: Mapping[str, object]) -> str:
    if word not in words:
        raise SettingsError(f"Unknown {what} {word!r}. Choose {', '.join(words)}.")
    return word
