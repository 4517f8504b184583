"""Keeps a pool as ``planning`` says it should be, one step at a time.

A step may end anywhere, by an error or with the process: what it has not done, the next one does, of this controller or of another. A
machine is written down before it is ordered; whatever the provider lists is compared with what is written down; and a machine ends itself
when its lifetime is over, should nobody come any more.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from taskfleet.errors import TaskfleetError, UnreachableError
from taskfleet.ledger import counters
from taskfleet.ledger.database import Database
from taskfleet.machines import PREEMPTED, Machine, Machines, MachineState, Order
from taskfleet.machines.choosing import Offer
from taskfleet.pool import boot_log, records
from taskfleet.pool.planning import (
    DONE,
    LATE,
    NEVER_STARTED,
    SILENT,
    STOPPED,
    UNKNOWN,
    Coolness,
    Limits,
    Plan,
    Purchase,
    State,
    kind_of,
    match,
    observe,
    plan,
)
from taskfleet.tasks import State as TaskState

#: A controller that has not looked for so long knows no more than one that begins.
GAP_SECONDS = 60.0
#: No provider lists a machine that has ended for longer.
LISTED_SECONDS = 4 * 3600.0
#: Of what a machine printed that did not get ready, so many lines are shown; and of so many machines at a time.
CONSOLE_LINES = 15
MOST_CONSOLES = 3
#: What ends a machine before its worker is heard and says nothing of the machine.
NOT_ITS_FAULT = (PREEMPTED, DONE, STOPPED, UNKNOWN)


class Work(Protocol):
    """What the pool is for."""

    def tasks_left(self) -> int:
        """Give the number of tasks that have not come to an end."""

    def heard_at(self) -> Mapping[str, float]:
        """Say when a worker on each machine was last heard, by the machine's token."""

    def has_worked(self) -> Mapping[str, float]:
        """Say of each machine that did something of use when its worker was last heard, by token."""


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
        return records.heard_at(self._database)

    def has_worked(self) -> Mapping[str, float]:
        """See ``Work.has_worked``."""
        return records.has_worked(self._database)


def failures(database: Database, worked: Mapping[str, float]) -> list[float]:
    """Say when machines ended that did nothing of use and are to blame for it, since the last one that did something."""
    ended = records.ended_since(database, max(worked.values(), default=0.0))
    return [
        one.ended_at
        for one in ended
        if one.ended_at is not None and one.token not in worked and not (one.end_reason or "").startswith(NOT_ITS_FAULT)
    ]


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
        self._offer_of = {kind_of(one): one for one in offers}
        self._limits = limits
        self._say = say
        self._coolness = Coolness()
        self._said = ""
        self._looked_at: float | None = None
        self._watched_since = 0.0
        self.last_words = ""
        """How far the latest machine that had to be replaced came, and its last lines."""

    def step(self, now: float) -> Plan | None:
        """Look and do what is to be done now; None if the provider did not answer."""
        try:
            return self._step(now)
        except UnreachableError as error:
            self._say_once(f"{error} Trying again.")
            return None

    def end_all(self, now: float, reason: str) -> int:
        """Have all machines of the job ended; return how many the provider still has, to be called until that is 0."""
        listed = self.look(now)
        there = [one for one in listed if one.state is not MachineState.ENDED]
        waiting = [one for one in there if one.state is not MachineState.ENDING]
        if waiting:
            records.note_ending(
                self._database, list(match(records.open_machines(self._database), waiting)), reason, now
            )
            self._machines.terminate([one.instance_id for one in waiting])
        open_machines = records.open_machines(self._database)
        matched = match(open_machines, there)
        return len(there) + sum(1 for one in open_machines if one.token not in matched)

    def _step(self, now: float) -> Plan:
        if self._looked_at is None or now - self._looked_at > GAP_SECONDS:
            self._watched_since = now
        self.look(now)
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
        worked = self._work.has_worked()
        state = State(
            now=now,
            tasks_left=self._work.tasks_left(),
            open_machines=open_machines,
            heard_at=heard_at,
            watched_since=self._watched_since,
            spent_usd=records.spent_usd(database),
            was_ever_ready=records.was_ever_ready(database),
            has_worked=bool(worked),
            failures=failures(database, worked),
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

    def look(self, now: float) -> Sequence[Machine]:
        """Write down what the provider's list says, and end what is there and should not be."""
        database = self._database
        listed = self._machines.list()
        open_machines = {one.token: one for one in records.open_machines(database)}
        closed_ids = records.closed_ids(database, now - LISTED_SECONDS)
        observed = observe(list(open_machines.values()), listed, now, self._looked_at, closed_ids)
        self._looked_at = now
        for token, machine in observed.started.items():
            offer = self._offer_of.get((machine.instance_type, machine.zone, machine.market))
            records.note_started(database, token, machine.instance_id, offer, now)
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
                if record.ready_at is None and not why.startswith((NEVER_STARTED, PREEMPTED)):
                    self._show_console(record.instance_id)
        for stray in observed.strays:
            records.reopen(database, stray, now)
            self._say(f"{stray.instance_id} is there and should not be: it is ended.")
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
            if reason in (LATE, SILENT):
                for token in tokens[:MOST_CONSOLES]:
                    self._show_console(known[token])
        if known:
            self._machines.terminate(list(known.values()))

    def _show_console(self, instance_id: str | None) -> None:
        """Show how far a machine came that has to be replaced, and the last lines that it printed."""
        if instance_id is None:
            return
        try:
            found = boot_log.report(self._machines.console(instance_id), CONSOLE_LINES)
        except UnreachableError:
            return
        if found:
            self.last_words = found
            self._say(f"{instance_id}: {found}")

    def _order(self, purchase: Purchase, now: float) -> None:
        database = self._database
        order = Order(
            token=f"{self._name}-{records.count_orders(database) + 1}-{secrets.token_hex(3)}",
            number=purchase.number,
            offers=purchase.offers,
            lifetime_seconds=purchase.lifetime_seconds,
        )
        records.write_order(database, order, provider=self._machines.name, now=now)
        try:
            answer = self._machines.launch(order)
        except UnreachableError:
            raise
        except TaskfleetError as error:  # nothing was started, and nothing will be
            records.note_never_started(database, dict.fromkeys(order.tokens, str(error)))
            raise
        best = purchase.offers[0]
        had = [self._offer_of[one.instance_type, one.zone, best.market] for one in answer.started]
        for token, one, offer in zip(order.tokens, answer.started, had, strict=False):
            # a provider that lets us name machines may have started the second and not the first
            own = one.instance_id if one.instance_id in order.tokens else token
            records.note_started(database, own, one.instance_id, offer, now)
        missing = order.number - len(answer.started)
        if missing:
            why = answer.refused[0]
            started = {one.instance_id for one in answer.started}
            left = [token for token in order.tokens if token not in started]
            records.note_never_started(database, dict.fromkeys(left[-missing:], f"{why.refusal}: {why.text}"))
        for offer, number in Counter(had).items():
            self._coolness.started(kind_of(offer))
            self._say(
                f"{_counted(number)} started: {offer.instance_type} in {offer.zone}, {offer.market}, {offer.usd_per_hour:.4f} USD per hour."
            )
        for refused in answer.refused:
            self._coolness.refused((refused.instance_type, refused.zone, best.market), refused.refusal, now)
        if missing:
            self._say(
                f"{_counted(missing)} not started: {why.instance_type} in {why.zone}, {best.market}: {why.refusal} ({why.text})."
            )
        self._said = ""

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._say(text)
            self._said = text


def _counted(n: int) -> str:
    return "1 machine" if n == 1 else f"{n} machines"
