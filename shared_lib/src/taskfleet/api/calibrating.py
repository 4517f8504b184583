"""Run a sample of the tasks here, and estimate the time, memory and cost of all tasks."""

import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from taskfleet.api.planning import Plan, plan, warn
from taskfleet.api.queue import open_job
from taskfleet.errors import CommandError
from taskfleet.invocation import poe
from taskfleet.ledger import insertion, queries
from taskfleet.ledger.database import create, open_ledger
from taskfleet.machine_terms import ANY, Range
from taskfleet.pool.estimate import read_job
from taskfleet.pool.selection import pool_need
from taskfleet.settings import Configuration
from taskfleet.settings.environment import environment_here, worker_command
from taskfleet.tasks import Outcome
from taskfleet.text import counted

JOB = "calibrate"
#: The factor between the sample's maximum and the requested memory: the sample may not have the largest task.
MEMORY_MARGIN = 1.25
#: The requested memory is a multiple of this.
MEMORY_STEP_GIB = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The measurements of a sample. Failed tasks count in ``failed`` only."""

    tasks: int
    failed: int
    mean_seconds: float
    median_seconds: float
    longest_seconds: float
    standard_error_seconds: float
    """Of the mean."""
    most_memory_mib: float | None
    """Of the largest task; None if the system does not measure it."""

    @property
    def memory_gib_per_task(self) -> float | None:
        """The memory to request for each task."""
        if self.most_memory_mib is None:
            return None
        return math.ceil(self.most_memory_mib / 1024 * MEMORY_MARGIN / MEMORY_STEP_GIB) * MEMORY_STEP_GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The measurements of a sample, and the plan for the remaining tasks."""

    measured: Measured
    plan: Plan

    @property
    def usd_per_task(self) -> float:
        """The price of a task while all slots are busy."""
        return self.measured.mean_seconds / 3600 * self.plan.best.usd_per_slot_hour

    @property
    def node_hours_per_task(self) -> float:
        """The node-hours of a task while all slots are busy; 0 for machines without nodes."""
        return self.measured.mean_seconds / 3600 * self.plan.best.nodes / self.plan.best.slots

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``poe calibrate --json`` prints."""
        best, estimate = self.plan.best, self.plan.estimate
        return asdict(self.measured) | {
            "memory_gib_per_task": self.measured.memory_gib_per_task,
            "instance_type": best.instance_type,
            "zone": best.zone,
            "market": best.market,
            "machines": self.plan.choice.count,
            "usd_per_task": self.usd_per_task,
            "node_hours_per_task": self.node_hours_per_task,
            "hours": estimate.hours,
            "node_hours": estimate.node_hours,
            "usd": estimate.usd,
            "tasks_left": estimate.tasks,
        }


def calibrate(
    configuration: Configuration, *, sample: int = 20, refresh: bool = False, say: Callable[[str], None] = warn
) -> Calibration:
    """Run a sample of the inserted tasks here, without changing the job, and plan machines for the remaining tasks.

    Args:
        configuration: The settings.
        sample: The number of tasks, spread over the table.
        refresh: Whether to fetch prices instead of using cached ones.
        say: Called with messages for the user.

    Raises:
        CommandError: There are no tasks, or no task of the sample succeeded.
    """
    database = open_job(configuration, read_only=True)
    rows = queries.sample(database, sample)
    database.close()
    if not rows:
        raise CommandError(f"The job has no tasks. Insert tasks first: {poe('insert_tasks')}.")
    say(f"Running {counted(len(rows), 'task')} here.")
    measured = _measure(configuration, rows)
    need = pool_need(configuration, read_job(configuration)[0])
    memory = measured.memory_gib_per_task
    if memory is not None and need.memory_gib_per_task == ANY:
        need = replace(need, memory_gib_per_task=Range(memory, None))
    hours = measured.mean_seconds / 3600
    found = plan(configuration, need=need, hours_per_task=hours, even_if_done=True, refresh=refresh, say=say)
    assert found is not None
    return Calibration(measured=measured, plan=found)


def _measure(configuration: Configuration, rows: Sequence[tuple[str, str]]) -> Measured:
    """Run these tasks in a worker with a temporary ledger."""
    project = configuration.project
    with tempfile.TemporaryDirectory(prefix="taskfleet-calibrate-") as folder:
        path = Path(folder) / f"{JOB}.db"
        database = create(path, job_id=JOB, project=project, now=time.time())
        under_way = insertion.begin(database, source=JOB)
        ids, data = [task_id for task_id, _ in rows], [text for _, text in rows]
        under_way.add(ids, data, ids_are_derived=False, now=time.time())
        under_way.accept(time.time())
        database.close()
        ours = {
            "JOB_ID": JOB,
            "LEDGER_PATH": str(path),
            "QUEUE_URL": "ledger",
            "TASKS_PER_PROCESS": "1",  # memory is measured for each process
            "EVENT_FILE": "",
            **{f"RETRIES_ON_{kind}": "0" for kind in ("EXCEPTION", "TIMEOUT", "EXIT", "MEMORY", "LOST", "REQUEST")},
        }
        environment = environment_here(configuration) | ours
        code = subprocess.run(
            worker_command(project), cwd=project, env=environment, stdout=subprocess.DEVNULL, check=False
        ).returncode
        if code == 130:
            raise KeyboardInterrupt
        if code:
            raise CommandError("The worker did not run (see above).")
        database = open_ledger(path, job_id=JOB, read_only=True)
        attempts = database.rows("SELECT outcome, elapsed_seconds, peak_memory_mib, error FROM attempt")
        database.close()
    return _measured(attempts)


def _measured(attempts: Sequence[tuple[int, float, float | None, str | None]]) -> Measured:
    seconds = [elapsed for outcome, elapsed, *_ in attempts if outcome == Outcome.SUCCEEDED]
    if not seconds:
        error = next((error for *_, error in attempts if error), "(no error was recorded)")
        raise CommandError(f"None of {counted(len(attempts), 'task')} succeeded. The first error:\n{error}")
    memory = [peak for *_, peak, _ in attempts if peak]
    return Measured(
        tasks=len(seconds),
        failed=len(attempts) - len(seconds),
        mean_seconds=statistics.fmean(seconds),
        median_seconds=statistics.median(seconds),
        longest_seconds=max(seconds),
        standard_error_seconds=statistics.stdev(seconds) / len(seconds) ** 0.5 if len(seconds) > 1 else 0.0,
        most_memory_mib=max(memory, default=None),
    )
