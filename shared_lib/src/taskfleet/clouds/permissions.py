"""Types for the permission tables ``aws_permissions`` and ``google_permissions``.

The tables are the single source for which permissions this library uses, who needs them, on which resources and for what. Preflight,
error messages, ``docs/permissions.md`` and the tests read them. The tests also verify that the requests sent need exactly these.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

#: The user agent of requests, which identifies them in the audit log of an account.
USER_AGENT = "taskfleet"

# --- what both providers' tables say about files in buckets ---

BUCKET_IS_SET = "BUCKET is set"
LARGE_VALUES = "a graph has values of more than 64 KiB"
TELLS_WORKERS = "tells workers that tasks are cancelled, or the job is paused"
DELETES_CONTROL = "deletes the job's control document"
LOOKS_FOR_VALUES = "finds out whether a large value is there already; without it, the value is uploaded again"


class Who(StrEnum):
    """Who needs a permission."""

    POOL = "pool"
    """The user who plans, deploys, monitors and ends a pool: ``poe plan``, ``deploy_pool``, ``stop``, ``list_regions`` and similar."""
    QUEUE = "queue"
    """The user who creates a job's service queue, sends tasks, cancels them, records events, and deletes the queue: ``poe insert_tasks``,
    ``cancel``, ``monitor``, ``delete_queue``, the script of a graph; ``deploy_pool`` too."""
    MACHINE = "machine"
    """The role or service account of machines: they download the code, receive tasks and send events."""
    TEARDOWN = "teardown"
    """A user who only terminates machines and removes the resources created for them: ``poe teardown``."""
    WATCHER = "watcher"
    """A user who only lists machines and reads their console output: ``poe machines``."""
    PROVIDER = "provider"
    """The provider itself, on behalf of the account."""


#: Who plans and runs pools, terminates machines, lists machines, and reads and writes large values of graphs.
POOL = (Who.POOL,)
TERMINATORS = (Who.POOL, Who.TEARDOWN)
LISTERS = (Who.POOL, Who.TEARDOWN, Who.WATCHER)
USERS_OF_RESULTS = (Who.QUEUE, Who.MACHINE)


class Use(StrEnum):
    """What a permission is used for."""

    CHOOSE = "Choosing machines"
    """Reads offers and prices; changes nothing."""
    START = "Starting machines"
    """Includes the lookups for a launch."""
    LOOK = "Listing machines"
    """Includes their console output."""
    END = "Terminating machines"
    """Only machines of the job."""
    CLEAR = "Removing remaining resources"
    """Launch templates, disks and network interfaces of the job."""
    EXPLAIN = "Explaining denials"
    """Without it, an error message has fewer details."""
    ONCE = "Once in an account"
    """Another user can do it beforehand."""
    CODE = "Files in buckets"
    """The project's code, the control document of a job, large values of graphs, and TASK_TABLE if it is in a bucket."""
    QUEUE = "Queues"
    """Tasks, events, and the queues themselves."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a grant, in addition to its resources."""

    text: str
    """For messages and documentation, after "if"."""
    terms: tuple[tuple[str, str, str], ...]
    """Operator, key and value as in AWS policies; for Google, the expression is the value of a single term."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Who needs a permission, and on which resources."""

    who: tuple[Who, ...]
    on: tuple[str, ...]
    """Resource names in the provider's format, with placeholders such as ``{account}``."""
    condition: Condition | None = None
    only_if: str = ""
    """When it is needed, such as "INSTANCE_PROFILE is set"; empty for always."""
    purpose: str = ""
    """What these need it for; empty for the purpose of the permission."""
    role: str = ""
    """A predefined role that suits these better than the permission's role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """A permission that this library uses."""

    name: str
    """In the provider's access management."""
    use: Use
    purpose: str
    grants: tuple[Grant, ...]
    calls: tuple[str, ...] = ()
    """The provider's calls that need it, if they have other names."""
    role: str = ""
    """A predefined role with few other permissions, if the provider has one."""

    @property
    def who(self) -> frozenset[Who]:
        """All who need it."""
        return frozenset(who for grant in self.grants for who in grant.who)

    def is_on(self, resource: str) -> bool:
        """Return whether it is needed on a resource."""
        return any(resource in grant.on for grant in self.grants)


class Permissions:
    """The permission table of a provider."""

    def __init__(self, rows: Iterable[Permission]) -> None:
        self.rows = tuple(rows)
        self._by_name = {row.name: row for row in self.rows}
        self._by_call = {call: row for row in self.rows for call in row.calls}

    def __getitem__(self, name: str) -> Permission:
        """Return a permission by its name.

        Raises:
            KeyError: It is not in the table.
        """
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        """Return whether a permission, or the permission of a call, is in the table."""
        return name in self._by_name or name in self._by_call

    def of_call(self, call: str) -> Permission:
        """Return the permission that a call of the provider needs.

        Raises:
            KeyError: The call is not in the table.
        """
        return self._by_call.get(call) or self._by_name[call]

    def of(self, *, who: Who | None = None, uses: Iterable[Use] = tuple(Use)) -> tuple[Permission, ...]:
        """Return the permissions that ``who`` needs for some uses; None for all users."""
        return tuple(row for row in self.rows if row.use in uses and (who is None or who in row.who))
