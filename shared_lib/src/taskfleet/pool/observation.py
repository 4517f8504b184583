"""Which machine of the provider is which of those that are written down: pure functions of both."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from taskfleet.machines import EndReason, LaunchedMachine, LaunchRequest, LaunchResult, Machine, MachineState
from taskfleet.pool.records import End, Record

#: What was launched a moment ago may be missing in the provider's list for this long.
LIST_GRACE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What became of each machine of a launch request."""

    launched: dict[str, LaunchedMachine]
    """By token."""
    failed: tuple[str, ...]
    """The tokens of those that were not launched."""


def assign(request: LaunchRequest, result: LaunchResult) -> Assignment:
    """Find the token of each machine that was launched.

    A provider that lets its caller name machines may have launched the second and not the first; the machines of others get the tokens
    that are left, in order.
    """
    tokens = set(request.tokens)
    launched = {one.instance_id: one for one in result.launched if one.instance_id in tokens}
    others = [one for one in result.launched if one.instance_id not in tokens]
    free = [token for token in request.tokens if token not in launched]
    launched |= dict(zip(free, others, strict=False))
    return Assignment(launched=launched, failed=tuple(free[len(others) :]))


def match(
    open_machines: Iterable[Record], listed: Iterable[Machine], closed_ids: Container[str] = ()
) -> dict[str, Machine]:
    """Find the machine of each token: the one that is known to be it, or has that name, or else any of the same request.

    Args:
        open_machines: Those that are not known to be gone.
        listed: All that the provider has of this job.
        closed_ids: The provider's names of machines that are known to be gone; it may still list them.
    """
    by_id = {one.instance_id: one for one in listed if one.instance_id not in closed_ids}
    found: dict[str, Machine] = {}
    nameless = []
    for record in open_machines:
        name = record.instance_id or record.token
        if name in by_id:
            found[record.token] = by_id.pop(name)
        elif record.instance_id is None:
            nameless.append(record)
    by_order: dict[str, list[Machine]] = {}
    for one in sorted(by_id.values(), key=lambda one: one.instance_id, reverse=True):
        by_order.setdefault(one.order, []).append(one)
    for record in nameless:
        if candidates := by_order.get(record.order_token):
            found[record.token] = candidates.pop()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the provider's list says of the machines that are written down."""

    started: dict[str, Machine] = field(default_factory=dict)
    """Token to machine: these are there, and were not known to be."""
    ended: dict[str, End] = field(default_factory=dict)
    """By token: these are gone."""
    unexpected: tuple[Machine, ...] = ()
    """There, and not among the open ones: to be ended."""


def observe(
    open_machines: Sequence[Record],
    listed: Sequence[Machine],
    now: float,
    looked_at: float | None = None,
    closed_ids: Container[str] = (),
) -> Observed:
    """Compare the open machines with the provider's list.

    Args:
        open_machines: Those that are not known to be gone.
        listed: All that the provider has of this job.
        now: Seconds since the epoch.
        looked_at: When the list before this one was asked for, None if nobody knows. A request of which nothing was ever seen counts as
            not carried out only if somebody has looked all the time: else a machine may have come and gone.
        closed_ids: See ``match``.
    """
    was_watched = looked_at is not None and now - looked_at <= LIST_GRACE_SECONDS
    matched = match(open_machines, listed, closed_ids)
    started: dict[str, Machine] = {}
    ended: dict[str, End] = {}
    for record in open_machines:
        machine = matched.get(record.token)
        if machine is None:
            if now - (record.started_at or record.ordered_at) > LIST_GRACE_SECONDS:
                was_seen = record.started_at is not None or not was_watched
                ended[record.token] = End(EndReason.GONE if was_seen else EndReason.NEVER_STARTED)
        elif machine.state is MachineState.ENDED:
            reason = machine.end_reason or (EndReason.ENDED if machine.detail else EndReason.GONE)
            ended[record.token] = End(reason, machine.detail)
        elif record.instance_id is None or record.started_at is None:
            started[record.token] = machine
    known = {one.instance_id for one in matched.values()}
    unexpected = tuple(
        one
        for one in listed
        if one.instance_id not in known and one.state not in (MachineState.ENDING, MachineState.ENDED)
    )
    return Observed(started=started, ended=ended, unexpected=unexpected)
