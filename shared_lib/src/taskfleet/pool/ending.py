"""Ending all machines of a job and what else was made for them, until the provider has shown that nothing is left."""

import time
from collections.abc import Callable, Mapping

from taskfleet.errors import UnreachableError
from taskfleet.ledger.database import Database
from taskfleet.machines import EndReason, Machines, MachineState
from taskfleet.pool.controller import Controller, LedgerWork
from taskfleet.pool.planning import Limits
from taskfleet.pool.records import End
from taskfleet.text import counted


def end_all(
    machines: Machines,
    end: Callable[[float], int],
    say: Callable[[str], None],
    *,
    clear: Callable[[], Mapping[str, int]],
    pause: Callable[[float], None],
    poll_seconds: float = 3.0,
    empty_lists_to_confirm: int = 2,
) -> Mapping[str, int]:
    """End all machines, then clear up after them.

    Args:
        machines: The provider.
        end: Has all machines ended as of a time; gives how many are left.
        say: Tells the user something.
        clear: Removes what else was made; gives how many of each kind of thing are left.
        pause: Waits for some seconds.
        poll_seconds: How often the provider is asked.
        empty_lists_to_confirm: How many lists in a row have to be empty, since they lag behind.

    Returns:
        Each kind of thing that was looked for, with how many are left: 0.
    """
    told = ""

    def say_once(text: str) -> None:
        nonlocal told
        if text != told:
            say(text)
        told = text

    empty_lists = 0
    while True:
        try:
            left = end(time.time())
            empty_lists = 0 if left else empty_lists + 1
            if left:
                say_once(f"Waiting for the end of {counted(left, 'machine')}.")
            elif empty_lists >= empty_lists_to_confirm:
                things = {**machines.clear(), **clear()}
                if not any(things.values()):
                    return {"machines": 0, **things}
                say_once(f"Waiting for {', '.join(f'{n} {kind}' for kind, n in things.items() if n)} to go.")
        except UnreachableError as error:
            say_once(f"{error} Trying again.")
        pause(poll_seconds)


def look(machines: Machines, database: Database) -> None:
    """Write down what the provider says of the machines."""
    _controller(machines, database, lambda _: None).look(time.time())


def _controller(machines: Machines, database: Database, say: Callable[[str], None]) -> Controller:
    return Controller(database, machines, LedgerWork(database), name="", offers=(), limits=Limits(), say=say)


def by_ledger(
    machines: Machines, database: Database, reason: EndReason, say: Callable[[str], None]
) -> Callable[[float], int]:
    """Give what ends all machines and writes it down; an order that may still be carried out is waited for."""
    controller = _controller(machines, database, say)
    return lambda now: controller.end_all(now, End(reason))


def by_list(machines: Machines) -> Callable[[float], int]:
    """Give what ends all machines that the provider lists; where there is no ledger."""

    def end(_: float) -> int:
        there = [one for one in machines.list() if one.state is not MachineState.ENDED]
        machines.terminate([one.instance_id for one in there if one.state is not MachineState.ENDING])
        return len(there)

    return end
