"""Machines that workers run on: the offers of providers, the choice among them, and launching, listing and terminating machines.

``Machines`` is the interface that every provider implements; ``catalogue`` and ``choosing`` decide what to launch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, Self

from taskfleet.machine_terms import Market

if TYPE_CHECKING:
    from taskfleet.machines.choosing import Offer

__all__ = [
    "BatchJobs",
    "Coded",
    "EndReason",
    "FailureReason",
    "Kind",
    "LaunchFailure",
    "LaunchRequest",
    "LaunchResult",
    "LaunchedMachine",
    "Machine",
    "MachineState",
    "Machines",
    "Preview",
]


class Kind(NamedTuple):
    """Type, zone and market of a machine."""

    instance_type: str
    zone: str
    market: Market


class MachineState(StrEnum):
    """The state of a machine at its provider."""

    QUEUED = "queued"
    """Accepted, but not started: it costs nothing, and its lifetime has not begun. See ``Machines``."""
    STARTING = "starting"
    """It is being created, and costs money."""
    RUNNING = "running"
    """Its operating system is running."""
    ENDING = "ending"
    """It is being terminated."""
    ENDED = "ended"
    """It has ended, and costs nothing."""


class Coded(StrEnum):
    """Codes that are stored and compared, each with words for people."""

    words: str

    def __new__(cls, code: str, words: str = "") -> Self:
        """Return a member with its words."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.words = words
        return member


class EndReason(Coded):
    """The reason why a machine ended, or was never launched. The codes are stored in the ledger and never change."""

    DONE = "done", "all tasks are done"
    """The pool terminated it: no tasks are left."""
    LATE = "late", "no worker started in time"
    """The pool terminated it: no worker on it sent a heartbeat within BOOT_MINUTES."""
    SILENT = "silent", "no heartbeat from its worker"
    """The pool terminated it: its worker sent no heartbeat for SILENT_MINUTES."""
    UNKNOWN = "unknown", "not in the ledger"
    """The pool terminated it: it was an unexpected machine."""
    NOTHING_WORKED = "nothing_worked", "no task ran on the first machines"
    """The pool removed it from its provider's queue: no task would run on it, either."""
    GAVE_UP = "gave_up", "the pool gave up"
    """The pool terminated all machines, because it could not continue; the detail has the reason."""
    STOPPED = "stopped", "stopped by the user"
    """``poe stop``."""
    TORN_DOWN = "torn_down", "torn down by the user"
    """``poe teardown``."""
    TERMINATED = "terminated", "terminated by the user"
    """Ctrl-C at ``poe deploy_pool``."""
    PREEMPTED = "preempted", "preempted"
    """Its provider reclaimed it."""
    CANCELLED = "cancelled", "removed from the queue"
    """Its provider, or somebody else, terminated it while it was queued: it never ran."""
    ENDED = "ended", "ended"
    """It ended by itself, or somebody else terminated it; the detail has what the provider reports."""
    GONE = "gone", "no longer listed by the provider"
    """Its provider no longer lists it, and gave no reason."""
    NEVER_STARTED = "never_started", "never started"
    """It was requested, but its provider never listed it; the reason is unknown."""
    STOCK_OUT = "stock_out", "no capacity"
    """Not launched; see ``FailureReason``, also for the next four."""
    QUOTA = "quota", "quota exceeded"
    """Not launched."""
    THROTTLED = "throttled", "throttled"
    """Not launched."""
    PRICE = "price", "spot price too high"
    """Not launched."""
    INVALID = "invalid", "rejected"
    """Not launched."""
    LAUNCH_ERROR = "launch_error", "not launched"
    """Not launched, since the account or a setting is wrong; the detail has the error."""

    def describe(self, detail: str = "") -> str:
        """Return the reason for people, with the provider's text if there is any."""
        if self in (EndReason.ENDED, EndReason.LAUNCH_ERROR) and detail:
            return detail
        return f"{self.words}: {detail}" if detail else self.words


class FailureReason(Coded):
    """The reason why a provider did not launch a machine."""

    STOCK_OUT = "stock_out", "no capacity"
    """No capacity for this type in this zone: try another one, or later."""
    QUOTA = "quota", "quota exceeded"
    """The account's quota is reached: try another type, or fewer machines."""
    THROTTLED = "throttled", "throttled"
    """Too many requests: try the same a little later."""
    PRICE = "price", "spot price too high"
    """The spot price has risen above the maximum price."""
    INVALID = "invalid", "rejected"
    """The request is wrong, or not permitted: a retry would fail, too."""

    @property
    def end_reason(self) -> EndReason:
        """The reason under which it is stored: the same code."""
        return EndReason(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRequest:
    """A request to launch similar machines. The ledger, tags and labels call it an order."""

    token: str
    """A unique name, which makes the request idempotent: sent twice, it launches its machines once."""
    number: int
    """The number of machines."""
    offers: tuple["Offer", ...]
    """The acceptable offers, the best first, all of one region and market. A provider that chooses by capacity uses any of them, others
    use the first."""
    lifetime_seconds: float
    """The self-destruct timer of each machine."""
    at_once: int | None = None
    """How many of them run at once, the others after these, until the job is done or paused: the machines see to that themselves, without
    a controller. None for all, which a controller terminates. Only for providers with ``Provider.batch_jobs``."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """A unique name for each machine."""
        return tuple(f"{self.token}-{index}" for index in range(1, self.number + 1))


@dataclass(frozen=True, slots=True)
class LaunchedMachine:
    """A machine that was launched."""

    instance_id: str
    """The machine's token if the provider lets the caller name machines, else the provider's ID."""
    instance_type: str
    zone: str
    is_queued: bool = False
    """Whether it is in the provider's queue; if not, it is being created."""


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """An offer for which the provider launched no machine, or fewer than requested."""

    instance_type: str
    zone: str
    reason: FailureReason
    text: str
    """The provider's text."""


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """The result of a launch request. If fewer machines were launched than requested, there is at least one failure."""

    launched: tuple[LaunchedMachine, ...] = ()
    failures: tuple[LaunchFailure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What is known of a launch request before it is sent."""

    script: str
    """The start-up script of the machines; empty if none would be launched."""
    notes: tuple[str, ...]
    """Sentences for people: where the machines would run, and when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine as its provider lists it."""

    instance_id: str
    request_token: str
    """The token of the launch request."""
    state: MachineState
    zone: str = ""
    instance_type: str = ""
    market: Market = Market.ON_DEMAND
    created_at: float = 0.0
    """When the provider accepted it, in seconds since the epoch."""
    running_since: float | None = None
    """When it started to run, in seconds since the epoch; None if it never did, or if the provider has no queue."""
    ended_at: float | None = None
    """When it ended, in seconds since the epoch; None if it has not, or if the provider does not report it."""
    end_reason: EndReason | None = None
    """The reason why it ended, if the provider reports one."""
    detail: str = ""
    """The provider's text about its state: why it ended, or is still queued or starting."""

    @property
    def kind(self) -> Kind:
        """Type, zone and market."""
        return Kind(self.instance_type, self.zone, self.market)


class Machines(Protocol):
    """Launches, lists and terminates the machines of one job.

    Implementations keep no state between calls: the provider's own list is the truth. Every method may be called again after it failed.

    Some providers accept machines that start when there is capacity, minutes or days later: batch systems, clusters that add nodes. If
    ``Provider.can_queue`` is set, such machines are QUEUED; other providers never use this state. A QUEUED machine costs nothing, its
    lifetime has not begun, and:

    - ``launch`` returns queued machines as launched, never as failures, regardless of how long they will be queued;
    - ``list`` returns every machine as long as it is queued: a missing one counts as ended. For machines that have started to run, also
      those that have ended since, it returns the time of the start (``running_since``), from which costs and lifetimes count. A state may
      lag behind by the same two minutes as the list; a machine never returns to QUEUED from another state. A machine that was terminated
      before it ran is listed as ended for some time, like others, without ``running_since``;
    - ``terminate`` removes queued machines from the queue; machines that have started meanwhile are terminated like any other.
    """

    name: ClassVar[str]

    def preflight(self) -> Sequence[str]:
        """Check what can prevent a launch, as far as possible without one.

        Returns:
            A sentence for each known obstacle, such as a missing permission or a wrong name.

        Raises:
            UnreachableError: The provider does not answer.
        """

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Launch machines, or queue them. A request with a known token launches nothing new, and returns the same machines or fewer.

        Raises:
            UnreachableError: It is unknown whether machines were launched; the same request can be sent again.
        """

    def list(self) -> Sequence[Machine]:
        """Return all existing machines of the job, and some that ended recently; machines launched a moment ago may be missing.

        Raises:
            UnreachableError: The provider does not answer.
        """

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """Terminate machines, including queued ones; machines that have ended or belong to another job are ignored.

        Raises:
            UnreachableError: The provider does not answer.
        """

    def console(self, instance_id: str) -> str | None:
        """Return the console output of a machine since its boot, as far as the provider keeps it.

        Returns:
            The output; empty if the machine has printed nothing yet; None if the job has no such machine, or no longer.

        Raises:
            UnreachableError: The provider does not answer.
        """

    def clear(self) -> Mapping[str, int]:
        """Delete all other resources of the job (templates, disks, addresses, logs) after its machines have ended.

        Returns:
            By kind of resource, how many are left; it is called again until all are 0.

        Raises:
            UnreachableError: The provider does not answer.
        """


class BatchJobs(Protocol):
    """What only batch systems can do, so that no process has to run beside the pool."""

    most_machines: ClassVar[int]
    """The maximum of a request whose machines run one after the other (``LaunchRequest.at_once``)."""
    controller_output: Path
    """The file that has what a controller prints."""

    def cancel_rest(self) -> bool:
        """Remove the machines of this machine's request that have not started from the queue; return False if another one has done so.

        Raises:
            ProviderError: The provider does not answer, or refuses it.
        """

    def submit_controller(self, run: str, command: Sequence[str]) -> str:
        """Submit a batch job that runs a controller, and before its end its successor, until the controller succeeds.

        Args:
            run: The prefix of the names of the job's machines, as in ``Provider.open``.
            command: Runs a controller in the project's folder.

        Returns:
            The ID of the batch job.

        Raises:
            CommandError: There is one.
            UnreachableError: The provider does not answer; it is unknown whether it was submitted.
            ProviderError: The provider refuses it.
        """

    def cancel_controllers(self, run: str) -> None:
        """End the batch jobs that run, or would run, a controller; the argument is that of ``submit_controller``.

        Raises:
            UnreachableError: The provider does not answer.
        """
