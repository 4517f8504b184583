"""Cooldowns: how long an offer is not used after a failed launch or a preemption."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.machine_terms import Market, region_of
from taskfleet.machines import FailureReason, Kind

#: The cooldown of an offer after the first failed launch, which doubles with each further one, and its maximum.
COOL_DOWN_SECONDS = {
    FailureReason.STOCK_OUT: (300.0, 3600.0),
    FailureReason.QUOTA: (120.0, 1800.0),
    FailureReason.PRICE: (600.0, 3600.0),
    FailureReason.THROTTLED: (2.0, 60.0),
    FailureReason.INVALID: (math.inf, math.inf),
}


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


@dataclass(slots=True)
class Cooldowns:
    """Offers that are not used at present. In memory only: a new controller starts without cooldowns."""

    _by_scope: dict[_Scope, _Cooldown] = field(default_factory=dict)

    def add_failure(self, kind: Kind, reason: FailureReason, now: float) -> None:
        """Start or extend the cooldown after a failed launch."""
        scope, (first, longest) = _scope_of(kind, reason), COOL_DOWN_SECONDS[reason]
        known = self._by_scope.get(scope)
        failures = 0 if known is None else known.failures + 1
        self._by_scope[scope] = _Cooldown(now + min(first * 2.0 ** min(failures, 30), longest), failures)

    def reset(self, kind: Kind) -> None:
        """End the cooldown after a successful launch: the next failure counts as the first."""
        for reason in (FailureReason.QUOTA, FailureReason.THROTTLED, FailureReason.STOCK_OUT):
            self._by_scope.pop(_scope_of(kind, reason), None)

    def until(self, kind: Kind) -> float:
        """Return the end of an offer's cooldown in seconds since the epoch; 0 if it has none."""
        known = (
            self._by_scope.get(_scope_of(kind, reason))
            for reason in (FailureReason.STOCK_OUT, FailureReason.QUOTA, FailureReason.THROTTLED)
        )
        return max((one.until for one in known if one is not None), default=0.0)


def _scope_of(kind: Kind, reason: FailureReason) -> _Scope:
    match reason:
        case FailureReason.THROTTLED:
            return _Scope()
        case FailureReason.QUOTA:
            return _Scope(place=region_of(kind.zone), market=kind.market)
    return _Scope(*kind)
