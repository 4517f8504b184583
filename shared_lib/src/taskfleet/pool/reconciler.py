"""Reconciliation of a pool's records with its provider: what has started or ended, and what should not exist."""

import logging
from collections.abc import Callable, Mapping, Sequence

from taskfleet.errors import UnreachableError
from taskfleet.ledger.database import Database
from taskfleet.machines import EndReason, FailureReason, Machine, Machines, MachineState
from taskfleet.machines.choosing import Offer
from taskfleet.pool import boot_log, records, updates
from taskfleet.pool.cooldowns import Cooldowns
from taskfleet.pool.matching import Changes, compare, match
from taskfleet.pool.records import End, MachineRecord
from taskfleet.text import duration

logger = logging.getLogger(__name__)

#: No provider lists ended machines for longer.
LISTED_SECONDS = 4 * 3600.0
#: The number of console lines that are shown of a machine that did not get ready.
CONSOLE_LINES = 15
#: The consoles of machines that ended for these reasons are not shown.
WITHOUT_CONSOLE = (EndReason.NEVER_STARTED, EndReason.PREEMPTED, EndReason.CANCELLED)


class Reconciler:
    """Keeps the records of a job's machines in line with their provider's list.

    Args:
        database: The job's ledger.
        machines: The job's machines at their provider.
        say: Prints a message for the user.
        offers: The offers that machines may have been launched from.
        cooldowns: Changed by machines that start, are preempted or cancelled.
        is_batch_system: Whether preempted machines are replaced at once: their successors wait in the provider's queue.
        manager_id: The number of the manager whose pool it is about; None for all pools of the job. The machines of other pools are left
            to these, and those of no known launch request belong to every pool.
    """

    def __init__(
        self,
        database: Database,
        machines: Machines,
        say: Callable[[str], None],
        *,
        offers: Sequence[Offer] = (),
        cooldowns: Cooldowns | None = None,
        is_batch_system: bool = False,
        manager_id: int | None = None,
    ) -> None:
        self._database = database
        self._machines = machines
        self._say = say
        self._manager_id = manager_id
        self._is_batch_system = is_batch_system
        self._offer_of = {one.kind: one for one in offers}
        self._cooldowns = cooldowns or Cooldowns()
        self.listed_at: float | None = None
        """The time of the last list; None before the first."""
        self.last_console = ""
        """The boot progress and the last console lines of the latest machine that had to be replaced."""

    def terminate_all(self, now: float, end: End) -> int:
        """Terminate all machines of the pool.

        Returns:
            How many still exist; it is called again until there is none.
        """
        existing = [one for one in self.reconcile(now) if one.state is not MachineState.ENDED]
        to_terminate = [one for one in existing if one.state is not MachineState.ENDING]
        if to_terminate:
            open_machines = self._open_machines()
            updates.mark_ending(self._database, list(match(open_machines, to_terminate)), end, now)
            self.terminate([one.instance_id for one in to_terminate])
        open_machines = self._open_machines()
        return len(existing) + len(open_machines) - len(match(open_machines, existing))

    def _open_machines(self) -> list[MachineRecord]:
        """Return the machines of the pool that its provider would list: others may run on, after another PROVIDER was set."""
        found = records.open_machines(self._database, self._manager_id)
        return [one for one in found if one.provider == self._machines.name]

    def reconcile(self, now: float) -> Sequence[Machine]:
        """Update the records from the provider's list, and terminate unexpected machines.

        Returns:
            The provider's list.
        """
        database = self._database
        listed = self._machines.list()
        if self._manager_id is not None:
            of_others = records.requests_of_other_pools(database, self._manager_id)
            listed = [one for one in listed if one.request_token not in of_others]
        open_machines = {one.token: one for one in self._open_machines()}
        closed_ids = records.closed_ids(database, now - LISTED_SECONDS)
        changes = compare(list(open_machines.values()), listed, now, self.listed_at, closed_ids)
        self.listed_at = now
        logger.debug("Provider lists %d machines, %d records are open.", len(listed), len(open_machines))
        for token, machine in changes.started.items():
            logger.info("Adopting machine %s (%s) as %s.", machine.instance_id, machine.state, token)
            offer = self._offer_of.get(machine.kind)
            updates.mark_started(database, token, machine.instance_id, offer, now, changes.running_at.get(token))
        self._note_running(changes.running_at, open_machines)
        if changes.details:
            logger.debug("Provider's texts: %s", changes.details)
            updates.update_details(database, changes.details)
        self._note_ended(changes, open_machines, now)
        for machine in changes.unexpected:
            is_known = updates.reopen(database, machine, now)
            logger.info("Unexpected machine %s has %s record.", machine.instance_id, "a closed" if is_known else "no")
            self._say(f"Unexpected machine {machine.instance_id}: terminating it.")
        if changes.unexpected:
            self.terminate([one.instance_id for one in changes.unexpected])
        return listed

    def _note_ended(self, changes: Changes, open_machines: Mapping[str, MachineRecord], now: float) -> None:
        """Record which machines have ended, start cooldowns, and report what the pool did not cause."""
        never = {token: end for token, end in changes.ended.items() if end.reason is EndReason.NEVER_STARTED}
        ended = {token: end for token, end in changes.ended.items() if token not in never}
        if never:
            updates.mark_never_started(self._database, never)
        if ended:
            updates.mark_ended(self._database, ended, now)
        for token, end in changes.ended.items():
            record = open_machines[token]
            logger.debug("Machine %s has ended: %s", token, end)
            is_cancelled = end.reason is EndReason.CANCELLED and record.ending_since is None
            is_preempted = end.reason is EndReason.PREEMPTED and not self._is_batch_system
            if is_preempted or is_cancelled:  # as if there were no capacity
                self._cooldowns.add_failure(record.kind, FailureReason.STOCK_OUT, now)
            if record.ending_since is None:
                self._say(f"{_described(record)} ended: {end.reason.describe(end.detail)}.")
                if record.ready_at is None and end.reason not in WITHOUT_CONSOLE:
                    self.show_console(record.instance_id)

    def _note_running(self, running_at: Mapping[str, float], open_machines: Mapping[str, MachineRecord]) -> None:
        """Record which queued machines have started to run."""
        queued = {token: since for token, since in running_at.items() if open_machines[token].is_queued}
        if not queued:
            return
        updates.mark_running(self._database, queued)
        for token, since in queued.items():
            record = open_machines[token]
            self._cooldowns.reset(record.kind, record.cpus)
            self._say(f"{_described(record)} is running, after {duration(since - record.ordered_at)} in the queue.")

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Call the provider to terminate machines."""
        logger.info("Terminating: %s", ", ".join(instance_ids))
        self._machines.terminate(instance_ids)

    def show_console(self, instance_id: str | None) -> None:
        """Report the boot progress of a machine that has to be replaced, and its last console lines."""
        if instance_id is None:
            return
        try:
            found = boot_log.report(self._machines.console(instance_id) or "", CONSOLE_LINES)
        except UnreachableError as error:
            logger.info("No console of %s: %s", instance_id, error)
            return
        if found:
            self.last_console = found
            self._say(f"{instance_id}: {found}")


def _described(record: MachineRecord) -> str:
    return f"{record.token} ({record.instance_type} in {record.zone})"
