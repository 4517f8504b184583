"""``poe deploy_pool``: launch machines, replace those that fail until all tasks are done, and terminate them."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from taskfleet.api.deploying import Pool, PoolReport, dump
from taskfleet.api.leaving import batch_jobs, most_machines
from taskfleet.api.planning import Plan, plans
from taskfleet.api.pool_making import check_machines
from taskfleet.errors import CommandError, UsageError
from taskfleet.invocation import poe
from taskfleet.pool.deployment import Ending, Interrupted
from taskfleet.pool.estimate import read_job
from taskfleet.settings import Configuration
from taskfleet.settings.environment import environment_here
from taskfleet.terminal.arguments import configure, make_parser, users_path, whole_number
from taskfleet.terminal.guard import INTERRUPTED, NO_HINT_VARIABLE
from taskfleet.terminal.hints import after_job, next_steps
from taskfleet.terminal.offers import add_refresh, show_plans
from taskfleet.terminal.prompts import confirm_start
from taskfleet.text import counted
from taskfleet.watch.text import final_report

EXAMPLES = """\
  poe deploy_pool                                   show the plan, ask, launch, monitor, terminate
  poe deploy_pool --dry-run                         only show the plan
  poe deploy_pool --yes --budget-usd 20             do not ask; stop launching at 20 USD
  poe deploy_pool --continue                        take over the machines of an interrupted run
  poe deploy_pool --leave                           Slurm: submit jobs that end by themselves; no process stays
  poe deploy_pool --as-job                          Slurm: the process that manages the pool is a batch job, too"""

DETAILS = (
    "The plan shows the cheapest machines that meet the requirements; they are launched after confirmation. Ctrl-C asks what to do with "
    "the machines."
)

#: Signals this close together are one.
SAME_SECONDS = 1.0


def run(argv: Sequence[str]) -> int:
    """Run the command; 0 when all tasks have ended, 1 if the pool gave up, 130 when it was stopped."""
    parser = make_parser("deploy_pool", DETAILS, EXAMPLES)
    add_refresh(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.add_argument("--dry-run", action="store_true", help="show the plan, launch nothing")
    parser.add_argument(
        "--continue",
        dest="take_over",
        action="store_true",
        help="take over the machines of a run that was interrupted, on this or another computer",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--leave",
        action="store_true",
        help="PROVIDER=slurm: submit jobs of which some run at once, the others after these, until the tasks are done; then return",
    )
    ways.add_argument(
        "--as-job", action="store_true", help="PROVIDER=slurm: manage the pool in a batch job of its own, and return"
    )
    parser.add_argument(
        "--limit", type=whole_number(1), default=5, metavar="N", help="show the best N offers (default 5)"
    )
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    check_machines(configuration)
    if arguments.leave or arguments.as_job:
        batch_jobs(configuration)
    if arguments.leave and arguments.take_over:
        raise UsageError("--leave launches machines; those of an earlier run go on without --continue.")
    if not arguments.dry_run:
        _insert_if_needed(configuration)
    found = plans(configuration, refresh=arguments.refresh, even_if_done=arguments.take_over)
    if not found:
        print(f"No tasks are left, so no machine is needed.\n\n{next_steps('results -o results.feather')}")
        return 0
    is_done = all(one.estimate.tasks == 0 for one in found.values())  # only with --continue: machines may exist
    if is_done:
        print("No tasks are left. Machines that still exist are terminated.")
    else:
        show_plans(configuration, found, arguments.limit)
        if arguments.leave:
            print(f"\n{_leaving_text(configuration, found)}")
    if arguments.dry_run:
        print("\nNo machine was launched (--dry-run).")
        return 0
    with Pool(configuration, found, take_over=arguments.take_over, say=print) as pool:
        if not arguments.yes and not is_done:
            confirm_start()
        if arguments.leave:
            number = pool.leave()
            print(
                f"\n{counted(number, 'batch job')} submitted; no process stays. The tasks, and the jobs, end by themselves."
            )
            print(f"\n{_steps_of_left()}")
            return 0
        if arguments.as_job:
            job_id = pool.submit(_command_of_controller(argv))
            output = batch_jobs(configuration).controller_output
            print(f"\nBatch job {job_id} manages the pool, and prints to {output}.\n\n{_steps_of_left()}")
            return 0
        try:
            with _signals():
                report = pool.run(ask=_ask_what_happens, protect=_uninterrupted)
        except Interrupted:  # at a moment when the pool could not end in order
            print(_left())
            return INTERRUPTED
    return _finish(configuration, report)


def _insert_if_needed(configuration: Configuration) -> None:
    """Run the project's insert_tasks.py if nothing was inserted yet."""
    if read_job(configuration)[0] is not None:
        return
    script = configuration.project / "insert_tasks.py"
    if not script.is_file():
        raise CommandError("No tasks are inserted, and there is no insert_tasks.py in the project.")
    print(f"No tasks are inserted yet. Running {poe('insert_tasks')}.", flush=True)
    environment = environment_here(configuration) | {NO_HINT_VARIABLE: "1"}  # what is next is known already
    code = subprocess.run(
        [sys.executable, str(script)], cwd=configuration.project, env=environment, check=False
    ).returncode
    print(flush=True)
    if code:
        raise CommandError("The tasks were not inserted (see above). No machine was launched.")


@contextmanager
def _signals() -> Iterator[None]:
    """Have the signals by which systems end processes leave the machines running: nobody can be asked.

    A system may signal a whole group, and poe or uv pass the signal on, so that it comes several times, the last ones late.
    """
    left_at = 0.0

    def leave(*_: object) -> None:
        nonlocal left_at
        now = time.monotonic()
        if not left_at or now - left_at > SAME_SECONDS:
            left_at = now
            raise Interrupted(Ending.LEFT)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    former = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, signal.SIG_IGN if left_at else handler)  # this process ends now


def _ask_what_happens() -> Ending | None:
    """Ask what happens to the machines; where nobody can be asked they are terminated: nobody else would do it."""
    if not sys.stdin.isatty():
        return Ending.TERMINATED
    print("\nChoose what to do with the machines:", file=sys.stderr)
    print("  t  terminate them; running tasks return to the queue", file=sys.stderr)
    print("  l  leave them running; each terminates itself when no tasks are left", file=sys.stderr)
    print("  c  continue", file=sys.stderr)
    answers = {"t": Ending.TERMINATED, "l": Ending.LEFT, "c": None}
    while True:
        try:
            answer = input("t, l or c: ").strip().lower()[:1]
        except (KeyboardInterrupt, EOFError):
            print("\nLeft running.", file=sys.stderr)
            return Ending.LEFT
        if answer in answers:
            return answers[answer]


def _uninterrupted(action: Callable[[], None]) -> None:
    """Do something that should not be left half done; the first Ctrl-C prints a message, a later one goes through."""
    warned_at = None
    while True:
        try:
            action()
        except KeyboardInterrupt:
            if warned_at is None:
                print(
                    f"\nTerminating the machines; this takes a moment. Ctrl-C again leaves the rest to {poe('teardown')}.",
                    file=sys.stderr,
                )
                warned_at = time.monotonic()
            elif time.monotonic() - warned_at > SAME_SECONDS:  # poe and uv may each pass the same one on
                raise
        else:
            return


def _finish(configuration: Configuration, report: PoolReport) -> int:
    """Print how the run ended; return the exit code."""
    if report.ending is not Ending.LEFT:
        print(final_report(report.status, time.time(), "pool"))
    match report.ending:
        case Ending.DONE:
            print(f"\nAll machines are terminated.\n\n{after_job(report.status)}")
            return 0
        case Ending.GAVE_UP:
            print("\nAll machines are terminated.", flush=True)
            output = f"\nThe last machine printed: {report.last_output}" if report.last_output else ""
            raise CommandError(f"The pool gave up: {report.reason}.{output}")
        case Ending.TERMINATED:
            print("\nAll machines are terminated. Their running tasks returned to the queue.")
            _offer_dump(configuration)
            print(f"\n{next_steps(('deploy_pool', 'to continue'))}")
        case Ending.LEFT:
            print(_left())
        case Ending.STOPPED:
            print(f"\nStopped by another process; {poe('machines')} lists the remaining machines.")
    return INTERRUPTED


def _left() -> str:
    steps = next_steps(("deploy_pool --continue", "takes them over"), "machines", ("teardown", "terminates them"))
    return (
        "\nThe machines keep running; each terminates itself when no tasks are left, or at the end of its lifetime."
        f"\n\n{steps}"
    )


def _steps_of_left() -> str:
    return next_steps("status", "machines", ("teardown", "terminates the machines"))


def _leaving_text(configuration: Configuration, plans: Mapping[str, Plan]) -> str:
    """Return how many batch jobs a pool without a controller has, at most."""
    lines = []
    for name, plan in plans.items():
        own = configuration.of_manager(name) if name else configuration
        most = min(batch_jobs(own).most_machines, most_machines(plan, own.pool.lifetime_hours))
        lines.append(
            f"Without a controller{f' (manager {name})' if name else ''}: at most {counted(most, 'batch job')} of up to "
            f"{own.pool.lifetime_hours:g} h each, {plan.choice.count:,} at once. Those that are not needed never start."
        )
    return "\n".join(lines)


def _command_of_controller(argv: Sequence[str]) -> list[str]:
    """Return the command that does the same as this one, and takes over what its predecessor left."""
    words = [one for one in argv if one not in ("--as-job", "--yes", "--continue")]
    return [sys.executable, "-P", "-m", "taskfleet", "deploy_pool", *words, "--continue", "--yes"]


def _offer_dump(configuration: Configuration) -> None:
    if not sys.stdin.isatty():
        return
    try:
        answer = input("Write the tasks to files in this folder, one file per state? [y/N] ").strip().lower()
    except (KeyboardInterrupt, EOFError):
        return
    if answer in ("y", "yes"):
        for path, n in dump(configuration, users_path(".")):
            print(f"  {path.name}: {counted(n, 'task')}")
