"""What a permission is, for the tables of ``aws_permissions`` and ``google_permissions``.

They are the only place where it stands which permissions this library uses, who needs them, on what and why. Preflight, the texts of
errors, ``docs/permissions.md`` and the tests read them; the tests also see that what is really sent to the services needs exactly these.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

#: What requests carry, so that an account's log of calls tells ours from others.
USER_AGENT = "taskfleet"


class Who(StrEnum):
    """Who needs a permission."""

    POOL = "pool"
    """Who plans a pool, starts it, watches it and ends it: ``poe plan``, ``deploy_pool``, ``stop``, ``list_regions`` and the like."""
    QUEUE = "queue"
    """Who makes a job's queue at a service, fills it, takes in what workers report, and deletes it: ``poe insert_tasks``, ``monitor``,
    ``show_queue``, ``delete_queue``; ``deploy_pool`` too."""
    MACHINE = "machine"
    """The role or the service account of the machines: they get the code, take tasks and report."""
    TEARDOWN = "teardown"
    """Who only ends machines and removes what was made for them: ``poe teardown``."""
    WATCHER = "watcher"
    """Who only looks which machines are there and what they print: ``poe machines``."""
    PROVIDER = "provider"
    """The provider itself, in the name of the account."""


class Use(StrEnum):
    """What a permission is used for."""

    CHOOSE = "Choosing machines"
    """What there is and what it costs; nothing is changed."""
    START = "Starting machines"
    """What is looked up for that included."""
    LOOK = "Looking at machines"
    """Which are there, and what they print."""
    END = "Ending machines"
    """Those of the job."""
    CLEAR = "Removing what is left"
    """Templates, disks and network interfaces of the job."""
    EXPLAIN = "Explaining refusals"
    """Without it a message names fewer details."""
    ONCE = "Once in an account"
    """It may be done by somebody else, beforehand."""
    CODE = "Files in buckets"
    """The project's code; TASK_TABLE, if it is an address in a bucket."""
    QUEUE = "Queues"
    """Tasks, events, and the queues themselves."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What narrows a permission besides the resource."""

    text: str
    """For people; after "if"."""
    terms: tuple[tuple[str, str, str], ...]
    """Operator, key and value as AWS's policies have them; of Google the expression, as the value of a single term."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Who needs a permission on what."""

    who: tuple[Who, ...]
    on: tuple[str, ...]
    """Names of resources as the provider writes them, with what differs in braces, such as ``{account}``."""
    condition: Condition | None = None
    only_if: str = ""
    """When it is needed at all, such as "INSTANCE_PROFILE is set"; empty for always."""
    why: str = ""
    """What these need it for, if not what the permission says of everybody."""
    role: str = ""
    """A predefined role that is better for these than the permission's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """A permission that this library uses."""

    name: str
    """As the provider's access management names it."""
    use: Use
    why: str
    grants: tuple[Grant, ...]
    calls: tuple[str, ...] = ()
    """The provider's calls that need it, where they are named otherwise."""
    role: str = ""
    """A predefined role that has it and not much else, if the provider has such."""

    @property
    def who(self) -> frozenset[Who]:
        """Everybody who needs it."""
        return frozenset(who for grant in self.grants for who in grant.who)

    def is_on(self, resource: str) -> bool:
        """Whether it is needed on such a resource."""
        return any(resource in grant.on for grant in self.grants)


class Permissions:
    """A provider's table."""

    def __init__(self, rows: Iterable[Permission]) -> None:
        self.rows = tuple(rows)
        self._by_name = {row.name: row for row in self.rows}
        self._by_call = {call: row for row in self.rows for call in row.calls}

    def __getitem__(self, name: str) -> Permission:
        """Return a permission by its name.

        Raises:
            KeyError: It is not used, as far as the table says.
        """
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        """Whether a permission, or what a call needs, is in the table."""
        return name in self._by_name or name in self._by_call

    def of_call(self, call: str) -> Permission:
        """Return the permission that one of the provider's calls needs.

        Raises:
            KeyError: The table does not know the call.
        """
        return self._by_call.get(call) or self._by_name[call]

    def of(self, *, who: Who | None = None, uses: Iterable[Use] = tuple(Use)) -> tuple[Permission, ...]:
        """Return those that somebody needs for some uses; None for everybody's."""
        return tuple(row for row in self.rows if row.use in uses and (who is None or who in row.who))
