"""Comparison of the recorded machines with the provider's list, by pure functions."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from taskfleet.machines import EndReason, LaunchedMachine, LaunchRequest, LaunchResult, Machine, MachineState
from taskfleet.pool.records import End, MachineRecord

#: A launched machine may be missing in the provider's list for this long.
LIST_GRACE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The result of a launch request for each of its tokens."""

    launched: dict[str, LaunchedMachine]
    """By token."""
    failed: tuple[str, ...]
    """Tokens of machines that were not launched."""


def assign(request: LaunchRequest, result: LaunchResult) -> Assignment:
    """Return the launched machine of each token.

    A provider that lets its caller name machines may have launched the second one and not the first; other machines get the remaining
    tokens in order.
    """
    tokens = set(request.tokens)
    launched = {one.instance_id: one for one in result.launched if one.instance_id in tokens}
    others = [one for one in result.launched if one.instance_id not in tokens]
    free = [token for token in request.tokens if token not in launched]
    launched |= dict(zip(free, others, strict=False))
    return Assignment(launched=launched, failed=tuple(free[len(others) :]))


def match(
    open_machines: Iterable[MachineRecord], listed: Iterable[Machine], closed_ids: Container[str] = ()
) -> dict[str, Machine]:
    """Return the listed machine of each token: the one with the recorded ID, else with that name, else any of the same request.

    Args:
        open_machines: Records of machines that are not known to have ended.
        listed: The provider's list of this job's machines.
        closed_ids: The provider's IDs of machines that are known to have ended; they may still be listed.
    """
    by_id = {one.instance_id: one for one in listed if one.instance_id not in closed_ids}
    found: dict[str, Machine] = {}
    without_id = []
    for record in open_machines:
        name = record.instance_id or record.token
        if name in by_id:
            found[record.token] = by_id.pop(name)
        elif record.instance_id is None:
            without_id.append(record)
    by_request: dict[str, list[Machine]] = {}
    for one in sorted(by_id.values(), key=lambda one: one.instance_id, reverse=True):
        by_request.setdefault(one.request_token, []).append(one)
    for record in without_id:
        if candidates := by_request.get(record.order_token):
            found[record.token] = candidates.pop()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The differences between the records and the provider's list."""

    started: dict[str, Machine] = field(default_factory=dict)
    """By token: machines that exist, and were not known to."""
    running_at: dict[str, float] = field(default_factory=dict)
    """By token: the earliest time since which machines run that were not known to run."""
    details: dict[str, str] = field(default_factory=dict)
    """By token: changed texts of the provider."""
    ended: dict[str, End] = field(default_factory=dict)
    """By token: machines that have ended."""
    unexpected: tuple[Machine, ...] = ()
    """Machines that exist without an open record, and have to be terminated."""


def compare(
    open_machines: Sequence[MachineRecord],
    listed: Sequence[Machine],
    now: float,
    listed_at: float | None = None,
    closed_ids: Container[str] = (),
) -> Changes:
    """Return the differences between the open records and the provider's list.

    Args:
        open_machines: Records of machines that are not known to have ended.
        listed: The provider's list of this job's machines.
        now: Seconds since the epoch.
        listed_at: The time of the previous list; None if it is unknown. A request whose machine was never listed counts as not carried
            out only if there was no gap between lists; otherwise a machine may have started and ended unseen.
        closed_ids: See ``match``.
    """
    matched = match(open_machines, listed, closed_ids)
    found = Changes(unexpected=_unexpected(listed, {one.instance_id for one in matched.values()}))
    for record in open_machines:
        token, machine = record.token, matched.get(record.token)
        if machine is None:
            if now - (record.started_at or record.ordered_at) > LIST_GRACE_SECONDS:
                found.ended[token] = _vanished(record, now, listed_at)
            continue
        if machine.state is MachineState.ENDED:
            found.ended[token] = _end_of(record, machine, now, listed_at)
            continue
        if record.instance_id is None or record.started_at is None:
            found.started[token] = machine
        if record.running_at is None and (running_at := _running_since(record, machine, now, listed_at)) is not None:
            found.running_at[token] = running_at
        if machine.detail != record.detail and record.end_reason is None:
            found.details[token] = machine.detail
    return found


def _unexpected(listed: Iterable[Machine], known: Container[str]) -> tuple[Machine, ...]:
    ended = (MachineState.ENDING, MachineState.ENDED)
    return tuple(one for one in listed if one.instance_id not in known and one.state not in ended)


def _vanished(record: MachineRecord, now: float, listed_at: float | None) -> End:
    """Return the end of a machine that is missing in the list."""
    was_watched = listed_at is not None and now - listed_at <= LIST_GRACE_SECONDS
    if record.started_at is None and was_watched:
        return End(EndReason.NEVER_STARTED)
    if not record.can_queue or record.running_at is not None:
        return End(EndReason.GONE)
    # it may have run at an unknown time: at most until now, for its whole lifetime
    earliest = max(_earliest_start(record, listed_at), now - record.lifetime_seconds)
    return End(EndReason.GONE, running_at=earliest)


def _end_of(record: MachineRecord, machine: Machine, now: float, listed_at: float | None) -> End:
    reason = machine.end_reason or (EndReason.ENDED if machine.detail else EndReason.GONE)
    running_at = None
    if record.can_queue and record.running_at is None:
        running_at = _running_since(record, machine, now, listed_at)
        if running_at is None:
            reason = machine.end_reason or EndReason.CANCELLED
    return End(reason, machine.detail, running_at, machine.ended_at)


def _running_since(record: MachineRecord, machine: Machine, now: float, listed_at: float | None) -> float | None:
    """Return the earliest time since which a machine runs; None if it is queued, or was until its end."""
    if not record.can_queue:
        return now
    if machine.running_since is not None:
        return min(max(machine.running_since, record.ordered_at), now)
    if machine.state in (MachineState.STARTING, MachineState.RUNNING) or record.ready_at is not None:
        return _earliest_start(record, listed_at)
    return None


def _earliest_start(record: MachineRecord, listed_at: float | None) -> float:
    """Return the earliest possible start of a machine if the provider does not report it: after the last list that had it queued."""
    if record.started_at is None:
        return record.ordered_at
    earliest = max(record.started_at, (listed_at or 0.0) - LIST_GRACE_SECONDS)
    return earliest if record.ready_at is None else min(earliest, record.ready_at)
