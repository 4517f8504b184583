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
    """By token: these are there, and were not known to be."""
    running_at: dict[str, float] = field(default_factory=dict)
    """By token: these run, at the earliest since then, and were not known to."""
    details: dict[str, str] = field(default_factory=dict)
    """By token: of these the provider says something else than before."""
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
    matched = match(open_machines, listed, closed_ids)
    found = Observed(unexpected=_unexpected(listed, {one.instance_id for one in matched.values()}))
    for record in open_machines:
        token, machine = record.token, matched.get(record.token)
        if machine is None:
            if now - (record.started_at or record.ordered_at) > LIST_GRACE_SECONDS:
                found.ended[token] = _vanished(record, now, looked_at)
            continue
        if machine.state is MachineState.ENDED:
            found.ended[token] = _end_of(record, machine, now, looked_at)
            continue
        if record.instance_id is None or record.started_at is None:
            found.started[token] = machine
        if record.running_at is None and (running_at := _running_since(record, machine, now, looked_at)) is not None:
            found.running_at[token] = running_at
        if machine.detail != record.detail and record.end_reason is None:
            found.details[token] = machine.detail
    return found


def _unexpected(listed: Iterable[Machine], known: Container[str]) -> tuple[Machine, ...]:
    over = (MachineState.ENDING, MachineState.ENDED)
    return tuple(one for one in listed if one.instance_id not in known and one.state not in over)


def _vanished(record: Record, now: float, looked_at: float | None) -> End:
    """Say what became of a machine that is not in the list."""
    was_watched = looked_at is not None and now - looked_at <= LIST_GRACE_SECONDS
    if record.started_at is None and was_watched:
        return End(EndReason.NEVER_STARTED)
    if not record.can_queue or record.running_at is not None:
        return End(EndReason.GONE)
    # it may have begun to run and ended, nobody knows when: at most it ran until now, for its whole lifetime
    earliest = max(_earliest_start(record, looked_at), now - record.lifetime_seconds)
    return End(EndReason.GONE, running_at=earliest)


def _end_of(record: Record, machine: Machine, now: float, looked_at: float | None) -> End:
    reason = machine.end_reason or (EndReason.ENDED if machine.detail else EndReason.GONE)
    if not record.can_queue or record.running_at is not None:
        return End(reason, machine.detail)
    running_at = _running_since(record, machine, now, looked_at)
    if running_at is None:
        reason = machine.end_reason or EndReason.CANCELLED
    return End(reason, machine.detail, running_at)


def _running_since(record: Record, machine: Machine, now: float, looked_at: float | None) -> float | None:
    """Return since when a machine runs, at the earliest; None if it is queued, or was until its end."""
    if not record.can_queue:
        return now
    if machine.running_since is not None:
        return min(max(machine.running_since, record.ordered_at), now)
    if machine.state in (MachineState.STARTING, MachineState.RUNNING) or record.ready_at is not None:
        return _earliest_start(record, looked_at)
    return None


def _earliest_start(record: Record, looked_at: float | None) -> float:
    """Return when a machine may have begun to run, at the earliest, if nobody says: it was queued, by a list that may have lagged."""
    if record.started_at is None:
        return record.ordered_at
    earliest = max(record.started_at, (looked_at or 0.0) - LIST_GRACE_SECONDS)
    return earliest if record.ready_at is None else min(earliest, record.ready_at)
