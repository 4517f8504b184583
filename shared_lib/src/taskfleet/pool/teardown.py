"""Teardown of a pool: terminate all machines and delete the job's other resources, until the provider lists none."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from taskfleet.clouds.retrying import Outages
from taskfleet.errors import LedgerError, UnreachableError
from taskfleet.ledger.database import Database
from taskfleet.machines import EndReason, Machines, MachineState
from taskfleet.pool.code_delivery import clear_bundles
from taskfleet.pool.job_machines import JobMachines, own_configurations
from taskfleet.pool.reconciler import Reconciler
from taskfleet.pool.records import End
from taskfleet.settings import Configuration
from taskfleet.text import counted

logger = logging.getLogger(__name__)


def terminate_all(
    machines: JobMachines,
    terminate: Callable[[float], int],
    say: Callable[[str], None],
    *,
    clear: Callable[[], Mapping[str, int]],
    pause: Callable[[float], None],
    poll_seconds: float = 3.0,
    empty_lists_to_confirm: int = 2,
) -> Mapping[str, int]:
    """Terminate all machines, then delete the other resources.

    Args:
        machines: The job's machines.
        terminate: Terminates all machines at a time; returns how many are left.
        say: Prints a message for the user.
        clear: Deletes the resources that are not the provider's; returns how many of each kind are left.
        pause: Waits for some seconds.
        poll_seconds: The interval between two calls of ``terminate``.
        empty_lists_to_confirm: The number of consecutive empty lists after which no machine counts as left, since lists lag behind.

    Returns:
        By kind of resource, how many are left: 0.

    Raises:
        LedgerError: The ledger could not be used; all machines that the provider lists are terminated, without a record.
    """
    last_message = ""

    def say_once(text: str) -> None:
        nonlocal last_message
        if text != last_message:
            say(text)
        last_message = text

    outages = Outages(say, service="The provider", report_after_seconds=0.0)
    ledger_error: LedgerError | None = None
    empty_lists = 0
    while True:
        began_at = time.monotonic()
        try:
            left = terminate(time.time())
            logger.debug("%d machines are left.", left)
            empty_lists = 0 if left else empty_lists + 1
            if left:
                say_once(f"Waiting for {counted(left, 'machine')} to end.")
            elif empty_lists >= empty_lists_to_confirm:
                resources = {**machines.clear(), **clear()}
                if not any(resources.values()):
                    if ledger_error is not None:
                        raise ledger_error
                    return {"machines": 0, **resources}
                left_by_kind = ", ".join(f"{n} {kind}" for kind, n in resources.items() if n)
                say_once(f"Waiting for the deletion of {left_by_kind}.")
        except UnreachableError as error:
            outages.failed("terminate", error, began_at)
        except LedgerError as error:
            if ledger_error is not None:
                raise
            say(f"{error} Terminating the machines that the provider lists.")
            ledger_error, terminate = error, listed_terminator(machines)
        else:
            outages.answered("terminate")
        pause(poll_seconds)


def reconcile(machines: JobMachines, database: Database) -> None:
    """Update the records from the lists of the providers."""
    for one in _reconcilers(machines, database, lambda _: None):
        one.reconcile(time.time())


def ledger_terminator(
    machines: JobMachines, database: Database, reason: EndReason, say: Callable[[str], None]
) -> Callable[[float], int]:
    """Return a function that terminates and records all machines, also those of launch requests that may still be carried out."""
    reconcilers = _reconcilers(machines, database, say)
    return lambda now: add_up(partial(one.terminate_all, now, End(reason)) for one in reconcilers)


def listed_terminator(machines: JobMachines) -> Callable[[float], int]:
    """Return a function that terminates all machines that the providers list; for jobs without a ledger."""

    def terminate(there: Machines) -> int:
        existing = [one for one in there.list() if one.state is not MachineState.ENDED]
        there.terminate([one.instance_id for one in existing if one.state is not MachineState.ENDING])
        return len(existing)

    return lambda _: add_up(partial(terminate, one) for one in machines.all)


def clear_code(configuration: Configuration) -> Mapping[str, int]:
    """Remove the bundles of code of all pools of the job; return how many of each kind of resource are left."""
    left: dict[str, int] = {}
    for one in (configuration, *own_configurations(configuration)):
        left |= clear_bundles(one)
    return left


def add_up(actions: Iterable[Callable[[], int]]) -> int:
    """Call all functions, even if a provider does not answer, and return the sum of what they return.

    Raises:
        UnreachableError: A provider did not answer.
    """
    total, failed = 0, None
    for action in actions:
        try:
            total += action()
        except UnreachableError as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return total


def _reconcilers(machines: JobMachines, database: Database, say: Callable[[str], None]) -> list[Reconciler]:
    return [Reconciler(database, one, say, manager_id=number) for number, one in machines.by_manager.items()]
