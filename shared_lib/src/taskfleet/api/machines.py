"""List and terminate the machines of a job, and read their consoles."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from taskfleet.api.planning import warn
from taskfleet.errors import CommandError, LedgerError, UnreachableError
from taskfleet.invocation import poe
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.machines import EndReason, Machine, MachineState
from taskfleet.machines.provider import provider_of
from taskfleet.pool import boot_log, control, records
from taskfleet.pool.costs import Costs
from taskfleet.pool.job_machines import (
    JobMachines,
    check_providers,
    machine_name,
    open_all,
    own_configurations,
    providers_of,
)
from taskfleet.pool.selection import limits_of
from taskfleet.pool.teardown import clear_code, ledger_terminator, listed_terminator, terminate_all
from taskfleet.settings import Configuration
from taskfleet.watch.machines import MachineRow, machine_rows
from taskfleet.watch.status import gather


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineList:
    """The machines of a job at one instant."""

    rows: Sequence[MachineRow]
    error: str
    """The reason why the provider's list is missing, so that the rows are from the ledger alone; empty if it is not."""
    costs: Costs | None
    """None if the job never had machines, or has no ledger here."""


def machines(configuration: Configuration, *, with_ended: bool = False) -> MachineList:
    """Return the machines of the job, from the provider's list and the ledger.

    Args:
        configuration: The settings.
        with_ended: Whether to return those that have ended too.
    """
    database = _ledger(configuration, read_only=True)
    listed, error = None, ""
    try:
        listed = list(open_all(configuration, database).list())
    except UnreachableError as unreachable:
        error = str(unreachable)
    now = time.time()
    rows = machine_rows(
        database,
        listed,
        limits_of(configuration),
        now,
        own_limits={one.manager: limits_of(one) for one in own_configurations(configuration)},
        with_ended=with_ended,
    )
    costs = None
    if database is not None:
        costs = gather(database, now).costs
        database.close()
    return MachineList(rows=rows, error=error, costs=costs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """The console output of a machine."""

    text: str
    """Empty if the provider keeps nothing."""
    summary: str
    """The boot progress; empty if the text does not show it."""


def console(configuration: Configuration, name: str) -> Console:
    """Return the console output of a machine, as far as the provider keeps it.

    Args:
        configuration: The settings.
        name: As ``machines`` lists it, or the machine's token.

    Raises:
        CommandError: The job has no such machine, or it has ended and its provider keeps nothing.
    """
    database = _ledger(configuration, read_only=True)
    try:
        known = [] if database is None else records.all_machines(database)
        there = open_all(configuration, database)
        record = next((one for one in known if name in (one.instance_id, one.token)), None)
        instance_id = name if record is None else record.instance_id
        text = None if instance_id is None else there.console(instance_id)
    finally:
        if database is not None:
            database.close()
    if text is not None:
        return Console(text=text, summary=boot_log.summary(text))
    if record is None:
        job = configuration.settings.job_id
        raise CommandError(f"Job {job} has no machine {name!r}. {poe('machines --all')} lists its machines.")
    if record.ended_at is not None:
        raise CommandError(
            f"Machine {name} has ended ({record.end_text}), and its provider keeps no console output of it. {poe('machines --all')} lists "
            "all machines of the job."
        )
    return Console(text="", summary="")


def existing(configuration: Configuration) -> tuple[Sequence[Machine], bool]:
    """Return the job's machines that have not ended, by the provider, and whether there is a ledger of the job here."""
    database = _ledger(configuration)
    found = [one for one in open_all(configuration, database).list() if one.state is not MachineState.ENDED]
    if database is not None:
        database.close()
    return found, database is not None


def stop(configuration: Configuration, *, say: Callable[[str], None] = warn) -> None:
    """Terminate all machines of the job and stop its controller; running tasks go back to the queue.

    Raises:
        LedgerError: There is no ledger of the job here.
        CommandError: A machine may run at a provider that its pool no longer has; all others are terminated.
    """
    with closing(
        open_ledger(configuration.ledger_path, job_id=configuration.settings.job_id, project=configuration.project)
    ) as database:
        _end_controller_jobs(configuration, database)
        if control.request_stop(database, time.time()):
            say("The running poe deploy_pool was asked to stop.")
        there = open_all(configuration, database)
        terminate_machines(configuration, there, database, EndReason.STOPPED, say)
        check_providers(there, database)


def teardown(configuration: Configuration, *, say: Callable[[str], None] = warn) -> Mapping[str, int]:
    """Terminate all machines of the job and remove all resources that were created for them, until none is left.

    It needs no ledger: the provider's list decides.

    Returns:
        The remaining number of each kind of resource: 0.

    Raises:
        CommandError: A machine may run at a provider that its pool no longer has; all others are terminated.
    """
    database = _ledger(configuration)
    try:
        if database is not None:
            _end_controller_jobs(configuration, database)
            control.request_stop(database, time.time())
        there = open_all(configuration, database)
        left = terminate_machines(configuration, there, database, EndReason.TORN_DOWN, say)
        if database is not None:
            check_providers(there, database)
        return left
    finally:
        if database is not None:
            database.close()


def _end_controller_jobs(configuration: Configuration, database: Database) -> None:
    """End the batch jobs of the controller first: the next one would launch machines again."""
    jobs = provider_of(configuration).batch_jobs(configuration)
    if jobs is not None:
        jobs.cancel_controllers(machine_name(configuration.settings.job_id, database))


def _ledger(configuration: Configuration, *, read_only: bool = False) -> Database | None:
    try:
        return open_ledger(
            configuration.ledger_path,
            job_id=configuration.settings.job_id,
            project=configuration.project,
            read_only=read_only,
        )
    except LedgerError:
        return None


def terminate_machines(
    configuration: Configuration,
    there: JobMachines,
    database: Database | None,
    reason: EndReason,
    say: Callable[[str], None],
) -> Mapping[str, int]:
    """Terminate machines and remove the resources created for them, until nothing is left.

    Args:
        configuration: The settings.
        there: The job's machines.
        database: The job's ledger, in which the terminations are recorded; None for what the provider lists, without a record.
        reason: The reason to record.
        say: Called with messages for people.

    Returns:
        The number left of each kind of resource: 0.
    """
    providers = providers_of(configuration)
    return terminate_all(
        there,
        listed_terminator(there) if database is None else ledger_terminator(there, database, reason, say),
        say,
        clear=lambda: clear_code(configuration),
        pause=time.sleep,
        poll_seconds=max(one.ending_poll_seconds for one in providers),
        empty_lists_to_confirm=max(one.empty_lists_to_confirm for one in providers),
    )
