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
from taskfleet.machines import EndReason, Kind, LaunchRequest, Machine, Machines, MachineState
from taskfleet.machines.choosing import Offer
from taskfleet.pool import boot_log, records
from taskfleet.pool.cooldowns import Cooldowns
from taskfleet.pool.observation import assign, match, observe
from taskfleet.pool.planning import Limits, Plan, State, plan
from taskfleet.pool.records import End, Record
from taskfleet.tasks import State as TaskState
from taskfleet.text import counted, duration

#: A controller that has not looked for so long knows no more than one that begins.
GAP_SECONDS = 60.0
#: No provider lists a machine that has ended for longer.
LISTED_SECONDS = 4 * 3600.0
#: Of what a machine printed that did not get ready, so many lines are shown; and of so many machines at a time.
CONSOLE_LINES = 15
MOST_CONSOLES = 3
#: What ends a machine before its worker is heard and says nothing of the machine.
NOT_ITS_FAULT = frozenset(
    {
        EndReason.PREEMPTED,
        EndReason.DONE,
        EndReason.STOPPED,
        EndReason.TORN_DOWN,
        EndReason.TERMINATED,
        EndReason.GAVE_UP,
        EndReason.UNKNOWN,
        EndReason.CANCELLED,
        EndReason.NOTHING_WORKED,
    }
)

#: Of these machines nothing was printed, or nothing that matters.
NOTHING_TO_SHOW = (EndReason.NEVER_STARTED, EndReason.PREEMPTED, EndReason.CANCELLED)


class Work(Protocol):
    """What the pool is for."""

    def tasks_left(self) -> int:
        """Give the number of tasks that have not come to an end."""

    def last_heartbeats(self) -> Mapping[str, float]:
        """Return when a worker on each machine gave its last sign of life, by the machine's token."""

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

    def last_heartbeats(self) -> Mapping[str, float]:
        """See ``Work.last_heartbeats``."""
        return records.last_heartbeats(self._database)

    def has_worked(self) -> Mapping[str, float]:
        """See ``Work.has_worked``."""
        return records.has_worked(self._database)


def failures(database: Database, worked: Mapping[str, float]) -> list[float]:
    """Say when machines ended that did nothing of use and are to blame for it, since the last one that did something."""
    ended = records.ended_since(database, max(worked.values(), default=0.0))
    return [
        one.ended_at
        for one in ended
        if one.ended_at is not None and one.token not in worked and one.end_reason not in NOT_ITS_FAULT
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
        can_queue: bool = False,
        poll_seconds: float = 10.0,
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
            can_queue: Whether accepted machines may wait in the provider's queue, unpaid.
            poll_seconds: How often ``step`` is called.
        """
        self._can_queue = can_queue
        self._gap_seconds = max(GAP_SECONDS, 3 * poll_seconds)
        self._database = database
        self._machines = machines
        self._work = work
        self._name = name
        self._offers = offers
        self._offer_of = {one.kind: one for one in offers}
        self._limits = limits
        self._say = say
        self._cooldowns = Cooldowns()
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

    def end_all(self, now: float, end: End) -> int:
        """Have all machines of the job ended; return how many the provider still has, to be called until that is 0."""
        listed = self.look(now)
        there = [one for one in listed if one.state is not MachineState.ENDED]
        waiting = [one for one in there if one.state is not MachineState.ENDING]
        if waiting:
            records.note_ending(self._database, list(match(records.open_machines(self._database), waiting)), end, now)
            self._machines.terminate([one.instance_id for one in waiting])
        open_machines = records.open_machines(self._database)
        matched = match(open_machines, there)
        return len(there) + sum(1 for one in open_machines if one.token not in matched)

    def _step(self, now: float) -> Plan:
        if self._looked_at is None or now - self._looked_at > self._gap_seconds:
            self._watched_since = now
        self.look(now)
        database = self._database
        last_heartbeats = self._work.last_heartbeats()
        open_machines = records.open_machines(database)
        ready = [
            one.token
            for one in open_machines
            if one.ready_at is None and last_heartbeats.get(one.token, 0.0) >= one.ordered_at
        ]
        if ready:
            records.note_ready(database, ready, now)
            self._say(f"{counted(len(ready), 'machine')} got ready: {', '.join(ready)}.")
            open_machines = records.open_machines(database)
        worked = self._work.has_worked()
        state = State(
            now=now,
            tasks_left=self._work.tasks_left(),
            open_machines=open_machines,
            last_heartbeats=last_heartbeats,
            watched_since=self._watched_since,
            spent_usd=records.spent_usd(database),
            was_ever_ready=records.was_ever_ready(database),
            has_worked=bool(worked),
            failures=failures(database, worked),
            offers=self._offers,
            next_token=f"{self._name}-{records.count_requests(database) + 1}-{secrets.token_hex(3)}",
        )
        found = plan(state, self._limits, self._cooldowns)
        if found.end:
            self._end(found.end, {one.token: one.instance_id for one in open_machines}, now)
        if found.launch is not None:
            self._launch(found.launch, now)
        elif found.hold is not None:
            self._say_once(f"No machine is started: {found.hold.text}.")
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
            offer = self._offer_of.get(machine.kind)
            records.note_started(database, token, machine.instance_id, offer, now, observed.running_at.get(token))
        self._note_running(observed.running_at, open_machines)
        if observed.details:
            records.note_details(database, observed.details)
        never = {token: end for token, end in observed.ended.items() if end.reason is EndReason.NEVER_STARTED}
        gone = {token: end for token, end in observed.ended.items() if token not in never}
        if never:
            records.note_never_started(database, never)
        if gone:
            records.note_ended(database, gone, now)
        for token, end in observed.ended.items():
            record = open_machines[token]
            if end.reason is EndReason.PREEMPTED:
                self._cooldowns.note_preemption(record.kind, now)
            elif end.reason is EndReason.CANCELLED and record.ending_since is None:
                self._cooldowns.note_cancellation(record.kind, now)
            if record.ending_since is None:
                self._say(
                    f"{token} ({record.instance_type} in {record.zone}) has ended: {end.reason.told(end.detail)}."
                )
                if record.ready_at is None and end.reason not in NOTHING_TO_SHOW:
                    self._show_console(record.instance_id)
        for machine in observed.unexpected:
            records.reopen(database, machine, now)
            self._say(f"Unexpected machine {machine.instance_id}: terminating it.")
        if observed.unexpected:
            self._machines.terminate([one.instance_id for one in observed.unexpected])
        return listed

    def _note_running(self, running_at: Mapping[str, float], open_machines: Mapping[str, Record]) -> None:
        """Note which machines have begun to run that may have been queued."""
        queued = {token: since for token, since in running_at.items() if open_machines[token].is_queued}
        if not queued:
            return
        records.note_running(self._database, queued)
        for token, since in queued.items():
            record = open_machines[token]
            self._cooldowns.note_start(record.kind)
            waited = duration(since - record.ordered_at)
            self._say(f"{token} ({record.instance_type} in {record.zone}) runs, after {waited} in the queue.")

    def _end(self, reasons: Mapping[str, EndReason], instance_ids: Mapping[str, str | None], now: float) -> None:
        """End machines; one of which nobody knows yet whether it is there is left until that is known."""
        known = {token: instance_id for token in reasons if (instance_id := instance_ids[token]) is not None}
        for reason in set(reasons.values()):
            tokens = [token for token in known if reasons[token] == reason]
            if tokens:
                records.note_ending(self._database, tokens, End(reason), now)
                self._say(f"{counted(len(tokens), 'machine')} ended: {reason.words}.")
            if reason in (EndReason.LATE, EndReason.SILENT):
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

    def _launch(self, request: LaunchRequest, now: float) -> None:
        database = self._database
        records.write_request(database, request, provider=self._machines.name, now=now, can_queue=self._can_queue)
        try:
            result = self._machines.launch(request)
        except UnreachableError:
            raise
        except TaskfleetError as error:  # nothing was started, and nothing will be
            records.note_never_started(database, dict.fromkeys(request.tokens, End(EndReason.LAUNCH_ERROR, str(error))))
            raise
        market = request.offers[0].market
        assignment = assign(request, result)
        offers = {
            token: self._offer_of[Kind(one.instance_type, one.zone, market)]
            for token, one in assignment.launched.items()
        }
        for token, one in assignment.launched.items():
            running_at = None if one.is_queued else now
            records.note_started(database, token, one.instance_id, offers[token], now, running_at)
        launched = Counter((offers[token], one.is_queued) for token, one in assignment.launched.items())
        for (offer, is_queued), number in launched.items():
            if not is_queued:
                self._cooldowns.note_start(offer.kind)
            self._say(
                f"{counted(number, 'machine')} {'queued' if is_queued else 'started'}: {offer.instance_type} in {offer.zone}, "
                f"{offer.market}, {offer.usd_per_hour:.4f} USD per hour."
            )
        for failure in result.failures:
            self._cooldowns.note_failure(Kind(failure.instance_type, failure.zone, market), failure.reason, now)
        if assignment.failed:
            why = result.failures[0]
            end = End(why.reason.end_reason, why.text)
            records.note_never_started(database, dict.fromkeys(assignment.failed, end))
            self._say(
                f"{counted(len(assignment.failed), 'machine')} not started: {why.instance_type} in {why.zone}, {market}: "
                f"{why.reason.words} ({why.text})."
            )
        self._said = ""

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._say(text)
            self._said = text
