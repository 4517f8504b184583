"""Which offers are left alone for a while, since they were refused or their machines taken away."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.machine_terms import Market, region_of
from taskfleet.machines import FailureReason, Kind

#: For how long an offer is left alone after a failed launch, at first and at most; twice as long each time.
COOL_DOWN_SECONDS = {
    FailureReason.STOCK_OUT: (300.0, 3600.0),
    FailureReason.QUOTA: (120.0, 1800.0),
    FailureReason.PRICE: (600.0, 3600.0),
    FailureReason.THROTTLED: (2.0, 60.0),
    FailureReason.INVALID: (math.inf, math.inf),
}
PREEMPTION_COOL_DOWN_SECONDS = (300.0, 3600.0)
CANCELLATION_COOL_DOWN_SECONDS = (300.0, 3600.0)


class _Scope(NamedTuple):
    """What a cooldown holds for; what is not named is any."""

    instance_type: str = ""
    place: str = ""
    """A zone, or a region where no type is named."""
    market: Market | None = None


@dataclass(frozen=True, slots=True)
class _Cooldown:
    until: float
    strikes: int


@dataclass(slots=True)
class Cooldowns:
    """Which offers are left alone, and until when. Kept in memory only: a new controller finds out again."""

    _by_scope: dict[_Scope, _Cooldown] = field(default_factory=dict)

    def note_failure(self, kind: Kind, reason: FailureReason, now: float) -> None:
        """Note that an offer could not be launched."""
        self._note(_scope_of(kind, reason), COOL_DOWN_SECONDS[reason], now)

    def note_preemption(self, kind: Kind, now: float) -> None:
        """Note that a machine was taken away."""
        self._note(_Scope(*kind), PREEMPTION_COOL_DOWN_SECONDS, now)

    def note_cancellation(self, kind: Kind, now: float) -> None:
        """Note that a machine was taken out of its provider's queue, by somebody else than the pool."""
        self._note(_Scope(*kind), CANCELLATION_COOL_DOWN_SECONDS, now)

    def note_start(self, kind: Kind) -> None:
        """Note that a machine started: the next failure of its kind counts as the first."""
        for reason in (FailureReason.QUOTA, FailureReason.THROTTLED, FailureReason.STOCK_OUT):
            self._by_scope.pop(_scope_of(kind, reason), None)

    def until(self, kind: Kind) -> float:
        """Return until when an offer is left alone, in seconds since the epoch; 0 if it is not."""
        known = (
            self._by_scope.get(_scope_of(kind, reason))
            for reason in (FailureReason.STOCK_OUT, FailureReason.QUOTA, FailureReason.THROTTLED)
        )
        return max((one.until for one in known if one is not None), default=0.0)

    def _note(self, scope: _Scope, seconds: tuple[float, float], now: float) -> None:
        known = self._by_scope.get(scope)
        strikes = 0 if known is None else known.strikes + 1
        self._by_scope[scope] = _Cooldown(now + min(seconds[0] * 2.0 ** min(strikes, 30), seconds[1]), strikes)


def _scope_of(kind: Kind, reason: FailureReason) -> _Scope:
    match reason:
        case FailureReason.THROTTLED:
            return _Scope()
        case FailureReason.QUOTA:
            return _Scope(place=region_of(kind.zone), market=kind.market)
    return _Scope(*kind)
