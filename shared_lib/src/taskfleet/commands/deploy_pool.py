"""``poe deploy_pool``: start machines, keep the pool full until all tasks are done, and end everything."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from taskfleet.commands.arguments import configure, make_parser, prompt, users_path
from taskfleet.commands.guard import INTERRUPTED, NO_HINT_VARIABLE
from taskfleet.commands.offer_table import add_refresh, choose_machines
from taskfleet.commands.plan import show_plan
from taskfleet.errors import CommandError, DeclinedError, SettingsError, UsageError
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.machines import EndReason, Machines
from taskfleet.machines.choosing import Choice
from taskfleet.machines.provider import provider_of
from taskfleet.pool import control, records
from taskfleet.pool.controller import Controller, LedgerWork
from taskfleet.pool.deployment import Deployment, Ending, Interrupted
from taskfleet.pool.ending import look
from taskfleet.pool.estimate import Estimate, read_job
from taskfleet.pool.job_machines import machine_name, open_machines
from taskfleet.pool.planning import Limits
from taskfleet.pool.records import End
from taskfleet.pool.selection import limits_of, needed
from taskfleet.pool.shipping import clear_bundles, ship
from taskfleet.processes.identity import identity
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import JobQueues, check_queue
from taskfleet.settings import Configuration
from taskfleet.settings.declaring import POOL_GROUPS
from taskfleet.settings.environment import environment_here
from taskfleet.text import counted
from taskfleet.watch.dump import dump_tasks
from taskfleet.watch.monitor import Monitor
from taskfleet.watch.progress import Progress
from taskfleet.watch.sending import SendingDisplay
from taskfleet.watch.status import gather
from taskfleet.watch.text import final_report

EXAMPLES = """\
  poe deploy_pool                                   show the plan, ask, start, watch, end
  poe deploy_pool --dry-run                         show the plan only
  poe deploy_pool --yes --budget-usd 20             do not ask
  poe deploy_pool --continue                        look after machines that are there already"""

#: Signals so close together are one.
SAME_SECONDS = 1.0


def run(argv: Sequence[str]) -> int:
    """Run the command; 0 when all tasks have come to an end, 1 if the pool gave up, 130 when it was stopped."""
    parser = make_parser(
        "deploy_pool",
        "Start the cheapest machines that fit, have them work on the tasks, replace those that fail, and end all of them when the tasks "
        "are done. It shows what it will do and asks first. Ctrl-C asks what is to become of the machines.",
        EXAMPLES,
        ("job", "worker", "limits", "retries", "watch", *POOL_GROUPS),
    )
    add_refresh(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and start nothing")
    parser.add_argument(
        "--continue",
        dest="goes_on",
        action="store_true",
        help="look after the machines of an earlier run, here or elsewhere, that was interrupted",
    )
    parser.add_argument("--limit", type=int, default=5, metavar="N", help="show so many of the best offers (5)")
    arguments = parser.parse_args(argv)
    if arguments.limit < 1:
        parser.error("--limit takes a whole number from 1 on")
    configuration = configure(arguments)
    _check_reach(configuration)
    _insert_if_needed(configuration, is_dry=arguments.dry_run)
    tasks, hours_per_task = read_job(configuration)
    if tasks == 0 and not arguments.goes_on:
        print("No tasks are left: no machine is needed.\n\nNext: poe results -o results.feather")
        return 0
    need = needed(configuration, tasks)
    choice = choose_machines(configuration, need, refresh=arguments.refresh)
    show_plan(choice, Estimate(choice, tasks, hours_per_task), arguments.limit, configuration.pool.budget_usd)
    if arguments.dry_run:
        print("\nNothing was started (--dry-run).")
        return 0
    database = open_ledger(
        configuration.ledger_path, job_id=configuration.settings.job_id, project=configuration.project
    )
    try:
        _check_earlier(configuration, database, goes_on=arguments.goes_on)
        machines = _open_machines(configuration, database, choice)
        if not arguments.yes:
            _ask_to_start()
        return _deploy(configuration, database, machines, choice, limits_of(configuration, need))
    finally:
        database.close()


def _check_reach(configuration: Configuration) -> None:
    provider = provider_of(configuration)
    if not provider.shares_file_system and not is_remote(configuration.settings.queue_url):
        raise SettingsError(
            f"PROVIDER={provider.name}: its machines cannot reach the ledger on this computer (QUEUE_URL=ledger). Use a queue service: "
            f"QUEUE_URL={provider.example_queue_url} in config/task.env (see docs), or PROVIDER=local."
        )


def _insert_if_needed(configuration: Configuration, *, is_dry: bool) -> None:
    """Run the project's insert_tasks.py if nothing was inserted yet."""
    if is_dry or read_job(configuration)[0] is not None:
        return
    script = configuration.project / "insert_tasks.py"
    if not script.is_file():
        raise CommandError("No tasks are inserted, and there is no insert_tasks.py in the project.")
    print("No tasks are inserted yet: poe insert_tasks", flush=True)
    environment = environment_here(configuration) | {NO_HINT_VARIABLE: "1"}  # what is next is known already
    code = subprocess.run(
        [sys.executable, str(script)], cwd=configuration.project, env=environment, check=False
    ).returncode
    print(flush=True)
    if code:
        raise CommandError("The tasks were not inserted (see above). No machine was started.")


def _check_earlier(configuration: Configuration, database: Database, *, goes_on: bool) -> None:
    """See that nobody looks after this pool, and that nothing is there that the user does not know of.

    Raises:
        CommandError: It is not so.
    """
    if goes_on or not records.open_machines(database):
        return
    look(open_machines(configuration, database), database)
    there = records.open_machines(database)
    if there:
        raise CommandError(
            f"{counted(len(there), 'machine')} of an earlier run may still be there. poe deploy_pool --continue goes on with them; "
            "poe machines lists them; poe teardown ends them."
        )


def _open_machines(configuration: Configuration, database: Database, choice: Choice) -> Machines:
    """Open the provider, with the code where machines get it, and see that nothing is known to be in the way.

    Raises:
        CommandError: Something is.
    """
    if not provider_of(configuration).code_sources:
        return open_machines(configuration, database)

    def say(text: str) -> None:
        print(text)

    machines = open_machines(configuration, database, script=ship(configuration, choice.ranked, say))
    troubles = machines.preflight()
    if troubles:
        raise CommandError("Machines cannot be started yet:\n" + "\n".join(f"  - {one}" for one in troubles))
    return machines


def _ask_to_start() -> None:
    if not sys.stdin.isatty():
        raise UsageError("Nobody is at the terminal to say yes: add --yes. Nothing was started.")
    if prompt("\nStart? [y/N] ").lower() not in ("y", "yes"):
        raise DeclinedError("Nothing was started.")


def _deploy(
    configuration: Configuration, database: Database, machines: Machines, choice: Choice, limits: Limits
) -> int:
    settings, provider = configuration.settings, provider_of(configuration)
    me = identity()
    other = control.take_control(database, me, time.time())
    if other is not None:
        raise CommandError(
            f"Another poe deploy_pool looks after this job (process {other.split('|')[1]}). poe status --watch shows how it gets on."
        )
    progress = Progress(database, every_seconds=settings.progress_seconds, verbose=settings.verbose)
    with ExitStack() as stack:
        stack.callback(control.give_control_up, database, me)
        check_queue(database, configuration)
        monitor = _monitor(configuration, database, stack)
        controller = Controller(
            database,
            machines,
            LedgerWork(database),
            name=machine_name(settings.job_id, database),
            offers=choice.ranked,
            limits=limits,
            say=progress.say,
            can_queue=provider.can_queue,
            poll_seconds=provider.poll_seconds,
        )
        deployment = Deployment(
            database,
            controller,
            machines,
            take_in=None if monitor is None else monitor.step,
            progress=progress,
            ask=lambda: _ask_what_becomes(progress),
            poll_seconds=provider.poll_seconds,
            ending_poll_seconds=provider.ending_poll_seconds,
            empty_lists_to_confirm=provider.empty_lists_to_confirm,
        )
        with _signals():
            ending = deployment.watch()
        progress.close(time.time())
        return _finish(configuration, database, deployment, monitor, ending)


def _monitor(configuration: Configuration, database: Database, stack: ExitStack) -> Monitor | None:
    if not is_remote(configuration.settings.queue_url):
        return None
    queues = stack.enter_context(JobQueues(configuration))
    queues.require()
    with SendingDisplay() as display:
        queues.send_unsent(database, display)
    monitor = Monitor(database, configuration, queues.events, prints=False)
    stack.callback(monitor.close)
    return monitor


@contextmanager
def _signals() -> Iterator[None]:
    """Have the signals by which systems end processes leave the machines alone: nobody is there to be asked."""

    def leave(*_: object) -> None:
        raise Interrupted(Ending.LEFT)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    former = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _ask_what_becomes(progress: Progress) -> Ending | None:
    """Ask what is to become of the machines; where nobody can be asked they are ended: nobody else would."""
    progress.close(time.time())
    if not sys.stdin.isatty():
        return Ending.TERMINATED
    print("\nWhat is to become of the machines?", file=sys.stderr)
    print("  t  terminate: end them; running tasks go back to the queue", file=sys.stderr)
    print("  l  leave: they go on alone and end themselves when no tasks are left", file=sys.stderr)
    print("  c  carry on", file=sys.stderr)
    answers = {"t": Ending.TERMINATED, "l": Ending.LEFT, "c": None}
    while True:
        try:
            answer = input("t, l or c: ").strip().lower()[:1]
        except (KeyboardInterrupt, EOFError):
            print("\nLeft alone.", file=sys.stderr)
            return Ending.LEFT
        if answer in answers:
            return answers[answer]


def _finish(
    configuration: Configuration,
    database: Database,
    deployment: Deployment,
    monitor: Monitor | None,
    ending: Ending,
) -> int:
    ends = {
        Ending.DONE: End(EndReason.DONE),
        Ending.GAVE_UP: End(EndReason.GAVE_UP, deployment.why_given_up),
        Ending.TERMINATED: End(EndReason.TERMINATED),
    }
    if ending in ends:
        _uninterrupted(lambda: deployment.end_all(ends[ending], lambda: clear_bundles(configuration)))
        if monitor is not None:
            _drain(monitor)
    if ending is Ending.DONE and monitor is not None:
        with JobQueues(configuration) as queues:
            queues.delete()
    now = time.time()
    status = gather(database, now)
    if ending is not Ending.LEFT:
        print(final_report(status, now, "pool"))
    match ending:
        case Ending.DONE:
            print("\nAll machines are gone.\n\nNext: poe results -o results.feather")
            return 0
        case Ending.GAVE_UP:
            print("\nAll machines are gone.", flush=True)
            words = f"\nThe last machine: {deployment.last_words}" if deployment.last_words else ""
            raise CommandError(f"The pool gave up: {deployment.why_given_up}.{words}")
        case Ending.TERMINATED:
            print("\nAll machines are gone. What was running waits in the queue again.")
            _offer_dump(configuration, database)
            print("\nNext: poe deploy_pool (to go on)")
        case Ending.LEFT:
            print(
                "\nThe machines go on alone; each ends itself when no tasks are left, or when its lifetime is over.\n\n"
                "Next: poe deploy_pool --continue (to look after them), poe machines, poe teardown"
            )
        case Ending.STOPPED:
            print("\nStopped from elsewhere; poe machines shows what is there.")
    return INTERRUPTED


def _uninterrupted(action: Callable[[], None]) -> None:
    """Do something that should not be left half done; Ctrl-C says so the first time, and goes through later."""
    said_at = None
    while True:
        try:
            action()
        except KeyboardInterrupt:
            if said_at is None:
                print(
                    "\nThe machines are being ended; this takes a moment. Ctrl-C again leaves that to poe teardown.",
                    file=sys.stderr,
                )
                said_at = time.monotonic()
            elif time.monotonic() - said_at > SAME_SECONDS:  # poe and uv may each pass the same one on
                raise
        else:
            return


def _drain(monitor: Monitor) -> None:
    """Take in what the machines told at their end."""
    while monitor.step():
        pass


def _offer_dump(configuration: Configuration, database: Database) -> None:
    if not sys.stdin.isatty():
        return
    try:
        answer = input("Write the tasks into files, one for each state? [y/N] ").strip().lower()
    except (KeyboardInterrupt, EOFError):
        return
    if answer in ("y", "yes"):
        for path, n in dump_tasks(database, users_path("."), configuration.settings.job_id):
            print(f"  {path.name}: {counted(n, 'task')}")
