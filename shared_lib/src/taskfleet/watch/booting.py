"""Machines of a pool whose workers have not started yet, described for the status."""

from collections import Counter
from dataclasses import dataclass

from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.pool import control, records
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.tasks import JSON
from taskfleet.text import counted, duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Booting:
    """The machines of a job without a heartbeat, and whether the pool has a controller."""

    machines: int
    """Machines that are being created or booting."""
    since: float | None
    """When the first of these was requested or started, in seconds since the epoch; None if there are none."""
    queued: int
    """Machines in their provider's queue."""
    by_manager: dict[str, int]
    """The number of both by the names of their managers, if not all are of the default one."""
    has_controller: bool
    """Whether a controller manages the pool; if not, machines that fail are not replaced."""

    def describe(self, now: float) -> str:
        """Return one or two sentences."""
        parts = []
        if self.machines and self.since is not None:
            verb = "has" if self.machines == 1 else "have"
            elapsed = duration(max(0.0, now - self.since))
            parts.append(f"{counted(self.machines, 'machine')} {verb} been booting for {elapsed}")
        if self.queued:
            verb = "is" if self.queued == 1 else "are"
            parts.append(f"{counted(self.queued, 'machine')} {verb} in the provider's queue")
        pools = ", ".join(f"{n} for manager {name}" for name, n in self.by_manager.items())
        text = f"{', and '.join(parts)}{f' ({pools})' if pools else ''}."
        return (
            text if self.has_controller else f"{text} The pool has no controller: a machine that fails is not replaced."
        )

    def to_json(self) -> dict[str, JSON]:
        """Return the object in what ``poe status --json`` prints."""
        return {
            "machines": self.machines,
            "since": self.since,
            "queued": self.queued,
            "managers": {**self.by_manager},
            "has_controller": self.has_controller,
        }


def find_booting(database: Database, now: float) -> Booting | None:
    """Return the machines that may still start to work; None if there are none."""
    existing = [one for one in records.open_machines(database) if one.ending_since is None]
    if not existing:
        return None
    last_heartbeats = records.last_heartbeats(database)
    waiting = [one for one in existing if one.token not in last_heartbeats]
    if not waiting:
        return None
    of_managers = Counter(one.manager_id for one in waiting)
    names = {0: DEFAULT_MANAGER, **managers.names(database)} if of_managers.keys() != {0} else {}
    booting = [since for one in waiting if (since := one.boots_since) is not None]
    return Booting(
        machines=len(booting),
        since=min(booting, default=None),
        queued=len(waiting) - len(booting),
        by_manager={name: of_managers[number] for number, name in names.items() if number in of_managers},
        has_controller=control.running(database, now) is not None,
    )
