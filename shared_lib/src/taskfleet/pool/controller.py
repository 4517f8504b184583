"""The controller of a pool: compares the records with the provider's list, and carries out the plan of ``planning``.

A step may fail or be killed anywhere: the next step, of this controller or another one, does what is left. A machine is recorded before it
is launched, every step compares the provider's list with the records, and a machine's self-destruct timer ends it if no controller does.
"""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from taskfleet.clouds.retrying import Outages
from taskfleet.errors import TaskfleetError, UnreachableError
from taskfleet.ledger import control
from taskfleet.ledger.database import Database
from taskfleet.machines import (
    EndReason,
    Kind,
    LaunchRequest,
    LaunchResult,
    Machines,
)
from taskfleet.machines.choosing import Offer
from taskfleet.pool import records, updates
from taskfleet.pool.cooldowns import Cooldowns
from taskfleet.pool.job_state import JobState, failures
from taskfleet.pool.matching import assign
from taskfleet.pool.planning import HoldReason, Limits, Plan, PoolState, plan, with_spares
from taskfleet.pool.reconciler import Reconciler
from taskfleet.pool.records import End
from taskfleet.text import counted

logger = logging.getLogger(__name__)

#: After a gap of this length between lists, a controller trusts old heartbeats no more than a new controller does.
GAP_SECONDS = 60.0
#: Of machines that are replaced in one step, the number whose consoles are shown.
MAX_CONSOLES = 3


class Controller:
    """Manages the pool of a manager, one step at a time.

    Args:
        database: The job's ledger.
        machines: The job's machines at the pool's provider.
        job: The state of the job.
        name: The prefix of the machines' names, at most 40 characters.
        offers: The offers that may be launched, the best first.
        limits: Of the pool.
        say: Prints a message for the user.
        can_queue: Whether the provider may queue machines at no cost.
        is_batch_system: See ``Reconciler``.
        poll_seconds: The interval at which ``step`` is called.
        failures_since: Unproductive machines that ended earlier do not count as failures; seconds since the epoch.
        manager_id: The number of the manager.
    """

    def __init__(
        self,
        database: Database,
        machines: Machines,
        job: JobState,
        *,
        name: str,
        offers: Sequence[Offer],
        limits: Limits,
        say: Callable[[str], None],
        can_queue: bool = False,
        is_batch_system: bool = False,
        poll_seconds: float = 10.0,
        failures_since: float = 0.0,
        manager_id: int = 0,
    ) -> None:
        self._manager_id = manager_id
        self._can_queue = can_queue
        self._gap_seconds = max(GAP_SECONDS, 3 * poll_seconds)
        self._failures_since = failures_since
        self._database = database
        self._machines = machines
        self._job = job
        self._name = name
        self._offers = offers
        self._offer_of = {one.kind: one for one in offers}
        self._limits = limits
        self._say = say
        self._cooldowns = Cooldowns()
        self._reconciler = Reconciler(
            database,
            machines,
            say,
            offers=offers,
            cooldowns=self._cooldowns,
            is_batch_system=is_batch_system,
            manager_id=manager_id,
        )
        self._outages = Outages(say, service="The provider", report_after_seconds=0.0)
        self._last_reason: HoldReason | None = None
        self._watched_since = 0.0

    @property
    def last_console(self) -> str:
        """See ``Reconciler.last_console``."""
        return self._reconciler.last_console

    def terminate_all(self, now: float, end: End) -> int:
        """See ``Reconciler.terminate_all``."""
        return self._reconciler.terminate_all(now, end)

    def leave(self, now: float, most: int, *, other_claims: int = 0) -> Plan:
        """Launch machines that need no controller: as many as a step would, and others that run after them.

        Args:
            now: Seconds since the epoch.
            most: How many machines there may be in all.
            other_claims: See ``PoolState``.

        Raises:
            UnreachableError: The provider does not answer; it is unknown whether machines were launched.
        """
        return self._step(now, other_claims, most)

    def step(self, now: float, *, other_claims: int = 0) -> Plan | None:
        """Reconcile, plan, and carry out the plan; return None if the provider did not answer.

        Args:
            now: Seconds since the epoch.
            other_claims: See ``PoolState``.
        """
        began_at = time.monotonic()
        try:
            found = self._step(now, other_claims)
        except UnreachableError as error:
            self._outages.failed("step", error, began_at)
            return None
        self._outages.answered("step")
        return found

    def _step(self, now: float, other_claims: int, most: int | None = None) -> Plan:
        listed_at = self._reconciler.listed_at
        if listed_at is None or now - listed_at > self._gap_seconds:
            logger.debug("Some heartbeats may not be recorded yet: heartbeat deadlines count from now.")
            self._watched_since = now
        self._reconciler.reconcile(now)
        state = self._state(now, other_claims)
        found = plan(state, self._limits, self._cooldowns)
        logger.debug(
            "%d tasks left, %d runnable, %d open machines: %s",
            state.tasks_left, state.tasks_runnable, len(state.open_machines), found,
        )  # fmt: skip
        if found.end:
            self._end(found.end, {one.token: one.instance_id for one in state.open_machines}, now)
        if found.launch is not None:
            launch = found.launch if most is None else with_spares(found.launch, state, self._limits, most)
            self._launch(launch, now)
        elif found.hold is not None:
            self._say_once(f"No machine is launched: {found.hold.text}.", found.hold.reason)
        return found

    def _state(self, now: float, other_claims: int) -> PoolState:
        """Return the state to plan with, after recording which machines are ready."""
        database = self._database
        last_heartbeats = self._job.last_heartbeats()
        open_machines = records.open_machines(database, self._manager_id)
        ready = [
            one.token
            for one in open_machines
            if one.ready_at is None and last_heartbeats.get(one.token, 0.0) >= one.ordered_at
        ]
        if ready:
            updates.mark_ready(database, ready, now)
            self._say(
                f"{counted(len(ready), 'machine')} {'is' if len(ready) == 1 else 'are'} ready: {', '.join(ready)}."
            )
        of_job = records.open_machines(database)
        open_machines = [one for one in of_job if one.manager_id == self._manager_id]
        productive = self._job.productive_machines()
        return PoolState(
            now=now,
            tasks_left=self._job.tasks_left(),
            tasks_runnable=self._job.tasks_runnable(),
            is_paused=control.is_paused(database),
            open_machines=open_machines,
            other_machines=[one for one in of_job if one.manager_id != self._manager_id],
            other_claims=other_claims,
            last_heartbeats=last_heartbeats,
            watched_since=self._watched_since,
            spent_usd=records.spent_usd(database),
            spent_node_hours=records.spent_node_hours(database),
            was_ever_ready=records.was_ever_ready(database, self._manager_id),
            was_ever_productive=bool(productive),
            failures=failures(database, productive, self._failures_since, manager_id=self._manager_id),
            offers=self._offers,
            next_token=f"{self._name}-{records.count_requests(database) + 1}-{secrets.token_hex(3)}",
        )

    def _end(self, reasons: Mapping[str, EndReason], instance_ids: Mapping[str, str | None], now: float) -> None:
        """Terminate machines, except those of which it is not known yet whether they exist."""
        known = {token: instance_id for token in reasons if (instance_id := instance_ids[token]) is not None}
        for reason in set(reasons.values()):
            tokens = [token for token in known if reasons[token] == reason]
            if tokens:
                updates.mark_ending(self._database, tokens, End(reason), now)
                self._say(f"Terminating {counted(len(tokens), 'machine')}: {reason.words}.")
            if reason in (EndReason.LATE, EndReason.SILENT):
                for token in tokens[:MAX_CONSOLES]:
                    self._reconciler.show_console(known[token])
        if known:
            self._reconciler.terminate(list(known.values()))

    def _launch(self, request: LaunchRequest, now: float) -> None:
        best = request.offers[0]
        logger.info(
            "Launch request %s: %d machines, lifetime %.0f s, %d offers, the best is %s in %s (%s).",
            request.token, request.number, request.lifetime_seconds, len(request.offers), best.instance_type, best.zone, best.market,
        )  # fmt: skip
        updates.add_request(
            self._database,
            request,
            provider=self._machines.name,
            now=now,
            can_queue=self._can_queue,
            manager_id=self._manager_id,
        )
        try:
            result = self._machines.launch(request)
        except TaskfleetError as error:
            if not isinstance(error, UnreachableError):  # no machine was launched
                end = End(EndReason.LAUNCH_ERROR, str(error))
                updates.mark_never_started(self._database, dict.fromkeys(request.tokens, end))
            raise
        self._note_launch(request, result, now)

    def _note_launch(self, request: LaunchRequest, result: LaunchResult, now: float) -> None:
        """Record and report the result of a launch request."""
        market = request.offers[0].market
        assignment = assign(request, result)
        offers = {
            token: self._offer_of[Kind(one.instance_type, one.zone, market)]
            for token, one in assignment.launched.items()
        }
        for token, one in assignment.launched.items():
            running_at = None if one.is_queued else now
            updates.mark_started(self._database, token, one.instance_id, offers[token], now, running_at)
        launched = Counter((offers[token], one.is_queued) for token, one in assignment.launched.items())
        for (offer, is_queued), number in launched.items():
            if not is_queued:
                self._cooldowns.reset(offer.kind, offer.cpus)
            price = f", {offer.price_words}" if offer.price_words else ""
            self._say(
                f"{counted(number, 'machine')} {'queued' if is_queued else 'launched'}: {offer.instance_type} in {offer.zone}{price}."
            )
        self._cooldowns.note_request(result.failures, has_launched=bool(assignment.launched))
        for failure in result.failures:
            kind = Kind(failure.instance_type, failure.zone, market)
            cpus = self._offer_of[kind].cpus if kind in self._offer_of else 0
            self._cooldowns.add_failure(kind, failure.reason, now, cpus=cpus, text=failure.text)
            logger.info(
                "Launch failure of %s: %s (%s); cooldown of %.0f s.",
                tuple(kind), failure.reason.value, failure.text, self._cooldowns.until(kind, cpus) - now,
            )  # fmt: skip
        if assignment.failed:
            first = result.failures[0]
            end = End(first.reason.end_reason, first.text)
            in_market = f", {market}" if request.offers[0].has_market else ""
            updates.mark_never_started(self._database, dict.fromkeys(assignment.failed, end))
            self._say(
                f"{counted(len(assignment.failed), 'machine')} not launched: {first.instance_type} in {first.zone}{in_market}: "
                f"{first.reason.words} ({first.text})."
            )
        self._last_reason = None

    def _say_once(self, text: str, reason: HoldReason) -> None:
        """Print a message, unless the last one since a launch had the same reason; its figures may be others."""
        if reason != self._last_reason:
            self._say(text)
            self._last_reason = reason
