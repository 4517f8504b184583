"""``poe calibrate``: run a sample of the tasks here, and say what all of them need and cost on machines."""

import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from taskfleet.commands.arguments import configure, make_parser, open_job
from taskfleet.commands.offer_table import add_refresh, choose_machines
from taskfleet.commands.plan import show_plan
from taskfleet.errors import CommandError
from taskfleet.ledger import inquiry, insertion
from taskfleet.ledger.database import create, open_ledger
from taskfleet.machine_terms import ANY, Range
from taskfleet.pool.estimate import Estimate, read_job
from taskfleet.pool.selection import needed
from taskfleet.settings import Configuration
from taskfleet.settings.declaring import OWN_GROUPS
from taskfleet.settings.environment import environment_here, worker_command
from taskfleet.tasks import Outcome
from taskfleet.text import counted, duration

EXAMPLES = """\
  poe calibrate                                     twenty tasks, spread over the table
  poe calibrate --sample 100 --slots 1              one after the other, undisturbed
  poe calibrate --provider aws --regions us-east-1  and what all would cost there"""

JOB = "calibrate"
#: More than the sample's greatest is asked for: it has not met the worst task.
MEMORY_MARGIN = 1.25
#: Memory is asked for in steps of this.
MEMORY_STEP_GIB = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a sample took. Failed tasks count in ``failed`` alone."""

    tasks: int
    failed: int
    mean_seconds: float
    median_seconds: float
    longest_seconds: float
    standard_error_seconds: float
    """Of the mean."""
    most_memory_mib: float | None
    """Of the hungriest; None if the system does not tell."""

    @property
    def memory_gib_per_task(self) -> float | None:
        """What to ask for."""
        if self.most_memory_mib is None:
            return None
        return math.ceil(self.most_memory_mib / 1024 * MEMORY_MARGIN / MEMORY_STEP_GIB) * MEMORY_STEP_GIB


def run(argv: Sequence[str]) -> int:
    """Run the command; 1 if no task of the sample succeeded."""
    parser = make_parser(
        "calibrate",
        "Run a sample of the inserted tasks here, apart from the job, and measure their time and memory. Then show what all tasks that are "
        "left would take and cost on the machines that fit. The sample's tasks run for real: what they write, they write.",
        EXAMPLES,
        ("job", "worker", "limits", "provider", "location", "machine", "task", "number", *OWN_GROUPS),
    )
    add_refresh(parser)
    parser.add_argument("--sample", type=int, default=20, metavar="N", help="run so many tasks (20)")
    parser.add_argument("--limit", type=int, default=5, metavar="N", help="show so many of the best offers (5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.sample < 1 or arguments.limit < 1:
        parser.error("--sample and --limit take a whole number from 1 on")
    configuration = configure(arguments)
    database = open_job(arguments, read_only=True)
    rows = inquiry.sample(database, arguments.sample)
    database.close()
    if not rows:
        raise CommandError("The job has no tasks: poe insert_tasks.")
    measured = _measure(configuration, rows, is_quiet=arguments.json)
    tasks, _ = read_job(configuration)
    need = needed(configuration, tasks)
    memory = measured.memory_gib_per_task
    if memory is not None and need.memory_gib_per_task == ANY:
        need = replace(need, memory_gib_per_task=Range(memory, None))
    choice = choose_machines(configuration, need, refresh=arguments.refresh)
    estimate = Estimate(choice, tasks, measured.mean_seconds / 3600)
    best = choice.best
    assert best is not None
    usd_per_task = measured.mean_seconds / 3600 * best.usd_per_slot_hour
    if arguments.json:
        found = asdict(measured) | {
            "memory_gib_per_task": memory,
            "instance_type": best.instance_type,
            "zone": best.zone,
            "market": best.market,
            "machines": choice.count,
            "usd_per_task": usd_per_task,
            "hours": estimate.hours,
            "usd": estimate.usd,
            "tasks_left": tasks,
        }
        print(json.dumps(found))
        return 0
    _show(measured)
    print()
    show_plan(choice, estimate, arguments.limit, configuration.pool.budget_usd)
    if usd_per_task:
        print(f"Price per task: {usd_per_task:.2g} USD, while all slots are busy.")
    hint = f" --memory-gib-per-task {memory:g}-" if memory is not None else ""
    print(f"\nNext: poe deploy_pool --hours-per-task {measured.mean_seconds / 3600:.2g}{hint}")
    return 0


def _measure(configuration: Configuration, rows: Sequence[tuple[str, str]], *, is_quiet: bool) -> Measured:
    """Have a worker run these tasks in a ledger of their own."""
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
            "TASKS_PER_PROCESS": "1",  # memory is known of each process
            "EVENT_FILE": "",
            **{f"RETRIES_ON_{kind}": "0" for kind in ("EXCEPTION", "TIMEOUT", "EXIT", "MEMORY", "LOST", "REQUEST")},
        }
        environment = environment_here(configuration) | ours
        if not is_quiet:
            print(f"Running {counted(len(rows), 'task')} here.", flush=True)
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
        error = next((error for *_, error in attempts if error), "no reason is known")
        raise CommandError(f"None of {counted(len(attempts), 'task')} succeeded; the first said:\n{error}")
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


def _show(measured: Measured) -> None:
    failed = f", {measured.failed:,} failed" if measured.failed else ""
    print(
        f"{counted(measured.tasks, 'task')} succeeded{failed}: {duration(measured.mean_seconds)} each "
        f"(± {duration(measured.standard_error_seconds)}), median {duration(measured.median_seconds)}, longest "
        f"{duration(measured.longest_seconds)}."
    )
    if measured.most_memory_mib is not None:
        print(
            f"Memory: {measured.most_memory_mib:,.0f} MiB at most; {measured.memory_gib_per_task:g} GiB for each task leave some room "
            "(MEMORY_GIB_PER_TASK)."
        )
