"""Cooldowns: how long an offer is not used after a failed launch or a preemption."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.machine_terms import Market, region_of
from taskfleet.machines import FailureReason, Kind, LaunchFailure

#: The cooldown of an offer after the first failed launch, which doubles with each further one, and its maximum.
COOL_DOWN_SECONDS = {
    FailureReason.STOCK_OUT: (300.0, 3600.0),
    FailureReason.QUOTA: (120.0, 1800.0),
    FailureReason.PRICE: (600.0, 3600.0),
    FailureReason.THROTTLED: (2.0, 60.0),
    FailureReason.INVALID: (math.inf, math.inf),
}
#: A rejection is general, and ends the pool, after this many launch requests since the last launch that were rejected as a whole: with the
#: same text, or with any.
MAX_SAME_REJECTIONS, MAX_REJECTIONS = 3, 10


class _Scope(NamedTuple):
    """The offers that a cooldown applies to; an empty field matches any."""

    instance_type: str = ""
    place: str = ""
    """A zone, or a region if ``instance_type`` is empty."""
    market: Market | None = None


@dataclass(frozen=True, slots=True)
class _Cooldown:
    until: float
    failures: int
    cpus: int = 0
    """Offers with fewer CPUs are not affected."""
    text: str = ""
    """The provider's text."""


@dataclass(slots=True)
class Cooldowns:
    """Offers that are not used at present. In memory only: a new controller starts without cooldowns."""

    _by_scope: dict[_Scope, _Cooldown] = field(default_factory=dict)
    _rejections: list[tuple[str, str]] = field(default_factory=list)
    """The launch requests since the last launch that were rejected as a whole: text without and with the names of type and zone."""

    def add_failure(self, kind: Kind, reason: FailureReason, now: float, *, cpus: int = 0, text: str = "") -> None:
        """Start or extend the cooldown after a failed launch; that of a quota affects offers with as many CPUs or more."""
        scope, (first, longest) = _scope_of(kind, reason), COOL_DOWN_SECONDS[reason]
        known = self._by_scope.get(scope)
        failures = 0 if known is None else known.failures + 1
        if reason is not FailureReason.QUOTA:
            cpus = 0
        elif known is not None and now < known.until:
            # another offer of the same request, or a smaller machine that was tried at once
            failures, cpus = known.failures, min(known.cpus, cpus)
        until = now + min(first * 2.0 ** min(failures, 30), longest)
        self._by_scope[scope] = _Cooldown(until, failures, cpus, text)

    def reset(self, kind: Kind, cpus: int) -> None:
        """End the cooldown after a successful launch: the next failure counts as the first.

        That of a quota stays for offers with more CPUs than the machine that was launched.
        """
        for reason in (FailureReason.QUOTA, FailureReason.THROTTLED, FailureReason.STOCK_OUT):
            scope = _scope_of(kind, reason)
            known = self._by_scope.get(scope)
            if known is not None and cpus >= known.cpus:
                del self._by_scope[scope]

    def until(self, kind: Kind, cpus: int) -> float:
        """Return the end of an offer's cooldown in seconds since the epoch; 0 if it has none."""
        known = (
            self._by_scope.get(_scope_of(kind, reason))
            for reason in (FailureReason.STOCK_OUT, FailureReason.QUOTA, FailureReason.THROTTLED)
        )
        return max((one.until for one in known if one is not None and cpus >= one.cpus), default=0.0)

    def quota_text(self, kind: Kind, cpus: int, now: float) -> str | None:
        """Return the provider's text about the quota because of which an offer has a cooldown; None if that is not the reason."""
        known = self._by_scope.get(_scope_of(kind, FailureReason.QUOTA))
        return known.text if known is not None and known.until > now and cpus >= known.cpus else None

    def note_request(self, failures: Sequence[LaunchFailure], *, has_launched: bool) -> None:
        """Note the result of a launch request, to tell general rejections from those of single offers."""
        if has_launched:
            self._rejections.clear()
        elif failures and all(one.reason is FailureReason.INVALID for one in failures):
            first = failures[0]
            plain = first.text.replace(first.instance_type, "*").replace(first.zone, "*")
            self._rejections.append((plain, first.text))

    @property
    def general_rejection(self) -> str | None:
        """The provider's text, if it rejects launch requests whatever the offer; else None."""
        texts = [plain for plain, _ in self._rejections]
        if texts and (texts.count(texts[-1]) >= MAX_SAME_REJECTIONS or len(texts) >= MAX_REJECTIONS):
            return self._rejections[-1][1]
        return None


def _scope_of(kind: Kind, reason: FailureReason) -> _Scope:
    match reason:
        case FailureReason.THROTTLED:
            return _Scope()
        case FailureReason.QUOTA:
            return _Scope(place=region_of(kind.zone), market=kind.market)
    return _Scope(*kind)
