"""What is done next when AWS has not started a fleet: a table of why not, and whether an earlier answer was lost."""

from enum import Enum, auto

from taskfleet.clouds.aws_errors import DENIED, THROTTLED
from taskfleet.errors import ProviderError, UnreachableError

_GIVEN_OTHERWISE = "IdempotentParameterMismatch"
_NO_TEMPLATE = ("InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound")


class Failure(Enum):
    """Why AWS has not started a fleet, as far as it matters to what is done next."""

    GIVEN_OTHERWISE = auto()
    """An order of this token was carried out, with other settings."""
    NO_TEMPLATE = auto()
    """The template is not known everywhere yet, or somebody has cleared up meanwhile."""
    THROTTLED = auto()
    """Too many requests: it was not carried out."""
    NO_ANSWER = auto()
    """Nobody knows whether it was carried out."""
    FLEET_REFUSED = auto()
    """The fleet is refused, for a reason that may be the offers'."""
    OTHER = auto()
    """Credentials, permissions, or a template that is refused: the offers are not to blame."""


class Next(Enum):
    """What is done next."""

    GIVEN_BEFORE = auto()
    """Look what was started then."""
    AGAIN = auto()
    """Ask once more."""
    AGAIN_AS_LOST = auto()
    """Ask once more, and remember that an answer was lost: what was asked may have been carried out."""
    REFUSED = auto()
    """It is the answer: no offer was to be had."""
    RAISE = auto()
    """Nothing was started, and nothing will be."""
    UNKNOWN = auto()
    """Say that nobody knows: an earlier try may have been carried out."""


#: By failure what is done next, if no answer was lost so far and if one was. When all tries are used up, nobody knows.
_NEXT = {
    Failure.GIVEN_OTHERWISE: (Next.GIVEN_BEFORE, Next.GIVEN_BEFORE),
    Failure.NO_TEMPLATE: (Next.AGAIN, Next.AGAIN),
    Failure.THROTTLED: (Next.REFUSED, Next.AGAIN_AS_LOST),
    Failure.NO_ANSWER: (Next.AGAIN_AS_LOST, Next.AGAIN_AS_LOST),
    Failure.FLEET_REFUSED: (Next.REFUSED, Next.UNKNOWN),
    Failure.OTHER: (Next.RAISE, Next.UNKNOWN),
}


def next_step(trouble: ProviderError, action: str, *, was_lost: bool) -> Next:
    """Say what is done next.

    Args:
        trouble: What CreateLaunchTemplate or CreateFleet was met with.
        action: Which of the two.
        was_lost: Whether the answer to an earlier request for this fleet was lost.
    """
    return _NEXT[failure_of(trouble, action)][was_lost]


def failure_of(trouble: ProviderError, action: str) -> Failure:
    """Say which kind of failure it is that CreateLaunchTemplate or CreateFleet was met with."""
    if trouble.code == _GIVEN_OTHERWISE:
        return Failure.GIVEN_OTHERWISE
    if trouble.code in _NO_TEMPLATE:
        return Failure.NO_TEMPLATE
    if trouble.code in THROTTLED:
        return Failure.THROTTLED
    if isinstance(trouble, UnreachableError):
        return Failure.NO_ANSWER
    if action == "CreateFleet" and trouble.code and trouble.code not in DENIED:
        return Failure.FLEET_REFUSED
    return Failure.OTHER
