"""Keeps a pool as ``planning`` says it should be, one step at a time.

A step may end anywhere, by an error or with the process: what it has not done, the next one does, of this controller or of another. A
machine is written down before it is ordered; whatever the provider lists is compared with what is written down; and a machine ends itself
when its lifetime is over, should nobody come any more.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from taskfleet.errors import MachinesUnreachableError
from taskfleet.ledger import counters
from taskfleet.ledger.database import Database
from taskfleet.machines import Machine, Machines, MachineState, Order, Refused, Started
from taskfleet.machines.choosing import Offer
from taskfleet.pool import records
from taskfleet.pool.planning import (
    DONE,
    NEVER_STARTED,
    PREEMPTED,
    STOPPED,
    UNKNOWN,
    Coolness,
    Limits,
    Plan,
    Purchase,
    State,
    kind_of,
    observe,
    plan,
)
from taskfleet.tasks import State as TaskState

#: What ends a machine before its worker is heard and says nothing of the machine.
_NOT_ITS_FAULT = (PREEMPTED, DONE, STOPPED, UNKNOWN)


class Work(Protocol):
    """What the pool is for."""

    def tasks_left(self) -> int:
        """Give the number of tasks that have not come to an end."""

    def heard_at(self) -> Mapping[str, float]:
        """Say when a worker on each machine was last heard, by the machine's token."""


class LedgerWork:
    """The tasks and workers of a ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tasks_left(self) -> int:
        """See ``Work.tasks_left``."""
        counts = counters.by_state(self._database)
        return counts[TaskState.PENDING] + counts[TaskState.RUNNING] + counts[TaskState.WAITING]

    def heard_at(self) -> Mapping[str, float]:
        """See ``Work.heard_at``."""
        return dict(
            self._database.rows(
                "SELECT machine.token, max(worker.seen_at) FROM machine JOIN worker ON worker.machine = machine.token "
                "WHERE machine.ended_at IS NULL GROUP BY machine.token"
            )
        )


class Controller:
    """One process that looks after a pool."""

    def __init__(
        self,
        database: Database,
        machines: Machines,
        work: Work,
        *,
        name: str,
        offers: Sequence[Offer],
        limits: Limits,
        say: Callable[[str], None],
    ) -> None:
        """Start to look after a pool.

        Args:
            database: The job's ledger.
            machines: The provider.
            work: What is left to do.
            name: What the machines' names begin with, at most 40 characters.
            offers: What may be ordered, the best first.
            limits: How many, how dear, how patient.
            say: Tells the user something.
        """
        self._database = database
        self._machines = machines
        self._work = work
        self._name = name
        self._offers = offers
        self._limits = limits
        self._say = say
        self._coolness = Coolness()
        self._said = ""
        self._looked_at: float | None = None

    def step(self, now: float) -> Plan | None:
        """Look and do what is to be done now; None if the provider did not answer."""
        try:
            return self._step(now)
        except MachinesUnreachableError as error:
            self._say_once(f"{error} Trying again.")
            return None

    def end_all(self, now: float, reason: str) -> int:
        """Have all machines of the job ended; return how many the provider still has, to be called until that is 0."""
        listed = self._look(now)
        there = [one for one in listed if one.state is not MachineState.ENDED]
        waiting = [one for one in there if one.state is not MachineState.ENDING]
        if waiting:
            records.note_ending(self._database, [one.token for one in waiting], reason, now)
            self._machines.terminate([one.instance_id for one in waiting])
        unknown = [
            one for one in records.open_machines(self._database) if one.token not in {each.token for each in there}
        ]
        return len(there) + len(unknown)

    def _step(self, now: float) -> Plan:
        self._look(now)
        database = self._database
        heard_at = self._work.heard_at()
        open_machines = records.open_machines(database)
        ready = [
            one.token
            for one in open_machines
            if one.ready_at is None and heard_at.get(one.token, 0.0) >= one.ordered_at
        ]
        if ready:
            records.note_ready(database, ready, now)
            self._say(f"{_counted(len(ready))} got ready: {', '.join(ready)}.")
            open_machines = records.open_machines(database)
        state = State(
            now=now,
            tasks_left=self._work.tasks_left(),
            open_machines=open_machines,
            heard_at=heard_at,
            spent_usd=records.spent_usd(database),
            was_ever_ready=records.was_ever_ready(database),
            boot_failures=records.boot_failures(database, _NOT_ITS_FAULT),
            offers=self._offers,
        )
        found = plan(state, self._limits, self._coolness)
        if found.end:
            self._end(found.end, {one.token: one.instance_id for one in open_machines}, now)
        if found.purchase is not None:
            self._order(found.purchase, now)
        elif found.waits_for:
            self._say_once(f"No machine is started: {found.waits_for}.")
        return found

    def _look(self, now: float) -> Sequence[Machine]:
        """Write down what the provider's list says, and end what is there and should not be."""
        database = self._database
        listed = self._machines.list()
        open_machines = {one.token: one for one in records.open_machines(database)}
        observed = observe(open_machines.values(), listed, now, self._looked_at)
        self._looked_at = now
        for token, instance_id in observed.started.items():
            records.note_started(database, token, instance_id, now)
        never = {token: why for token, why in observed.ended.items() if why == NEVER_STARTED}
        gone = {token: why for token, why in observed.ended.items() if why != NEVER_STARTED}
        if never:
            records.note_never_started(database, never)
        if gone:
            records.note_ended(database, gone, now)
        for token, why in observed.ended.items():
            record = open_machines[token]
            if why.startswith(PREEMPTED):
                self._coolness.preempted(record.kind, now)
            if record.ending_since is None:
                self._say(f"{token} ({record.instance_type} in {record.zone}) has ended: {why}.")
        for stray in observed.strays:
            records.reopen(database, stray.token, stray.instance_id, now)
            self._say(f"{stray.token} is there and should not be: it is ended.")
        if observed.strays:
            self._machines.terminate([one.instance_id for one in observed.strays])
        return listed

    def _end(self, reasons: Mapping[str, str], instance_ids: Mapping[str, str | None], now: float) -> None:
        """End machines; one of which nobody knows yet whether it is there is left until that is known."""
        known = {token: instance_id for token in reasons if (instance_id := instance_ids[token]) is not None}
        for reason in set(reasons.values()):
            tokens = [token for token in known if reasons[token] == reason]
            if tokens:
                records.note_ending(self._database, tokens, reason, now)
                self._say(f"{_counted(len(tokens))} ended: {reason}.")
        if known:
            self._machines.terminate(list(known.values()))

    def _order(self, purchase: Purchase, now: float) -> None:
        offer = purchase.offer
        first = records.count_ever(self._database) + 1
        orders = [
            Order(
                token=f"{self._name}-{first + index}-{secrets.token_hex(3)}",
                instance_type=offer.instance_type,
                zone=offer.zone,
                market=offer.market,
                usd_per_hour=offer.usd_per_hour,
                slots=offer.slots,
                lifetime_seconds=purchase.lifetime_seconds,
                boot_disk_type=offer.boot_disk_type,
                boot_disk_gib=offer.boot_disk_gib,
            )
            for index in range(purchase.number)
        ]
        records.write_orders(self._database, orders, provider=self._machines.name, now=now)
        answers = self._machines.launch(orders)
        kind = kind_of(offer)
        refused = [one for one in answers if isinstance(one, Refused)]
        for one in answers:
            if isinstance(one, Started):
                records.note_started(self._database, one.token, one.instance_id, now)
        if refused:
            records.note_never_started(self._database, {one.token: f"{one.refusal}: {one.text}" for one in refused})
        if len(refused) < len(answers):
            self._coolness.started(kind)
            self._say(
                f"{_counted(len(answers) - len(refused))} started: {offer.instance_type} in {offer.zone}, {offer.market}, "
                f"{offer.usd_per_hour:.4f} USD per hour."
            )
        if refused:
            self._coolness.refused(kind, refused[0].refusal, now)
            self._say(
                f"{_counted(len(refused))} not started: {offer.instance_type} in {offer.zone}, {offer.market}: {refused[0].refusal} "
                f"({refused[0].text})."
            )
        self._said = ""

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._say(text)
            self._said = text


def _counted(n: int) -> str:
    return "1 machine" if n == 1 else f"{n} machines"
