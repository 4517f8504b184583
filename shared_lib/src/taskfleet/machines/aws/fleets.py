"""Decision table for failed calls of CreateLaunchTemplate and CreateFleet, where the response to an earlier call may have been lost."""

from enum import Enum, auto

from taskfleet.clouds.aws_errors import DENIED, THROTTLED
from taskfleet.errors import ProviderError, UnreachableError

_OTHER_PARAMETERS = "IdempotentParameterMismatch"
_NO_TEMPLATE = ("InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound")


class FleetFailure(Enum):
    """Why AWS has not created a fleet, as far as it matters for the next step."""

    OTHER_PARAMETERS = auto()
    """A request with this token was carried out before, with other parameters."""
    NO_TEMPLATE = auto()
    """The template is not visible everywhere yet, or somebody has deleted it."""
    THROTTLED = auto()
    """Too many requests: this one was not carried out."""
    NO_RESPONSE = auto()
    """It is unknown whether the request was carried out."""
    FLEET_REJECTED = auto()
    """The fleet is rejected, for a reason that may lie in its offers."""
    OTHER = auto()
    """Credentials, permissions, or a rejected template: the offers are not the reason."""


class NextStep(Enum):
    """What to do next."""

    FIND_LAUNCHED = auto()
    """List the machines that the earlier request launched."""
    RETRY = auto()
    """Send the request again."""
    RETRY_AS_LOST = auto()
    """Send the request again, and remember that a response was lost: the request may have been carried out."""
    FAIL_OFFERS = auto()
    """Report a launch failure of every offer."""
    RAISE = auto()
    """Raise the error: nothing was launched, and nothing will be."""
    UNKNOWN = auto()
    """Report that the result is unknown: an earlier request may have been carried out."""


#: By failure: the next step if no response was lost so far, and if one was. After the last attempt the result is unknown.
_NEXT = {
    FleetFailure.OTHER_PARAMETERS: (NextStep.FIND_LAUNCHED, NextStep.FIND_LAUNCHED),
    FleetFailure.NO_TEMPLATE: (NextStep.RETRY, NextStep.RETRY),
    FleetFailure.THROTTLED: (NextStep.FAIL_OFFERS, NextStep.RETRY_AS_LOST),
    FleetFailure.NO_RESPONSE: (NextStep.RETRY_AS_LOST, NextStep.RETRY_AS_LOST),
    FleetFailure.FLEET_REJECTED: (NextStep.FAIL_OFFERS, NextStep.UNKNOWN),
    FleetFailure.OTHER: (NextStep.RAISE, NextStep.UNKNOWN),
}


def next_step(error: ProviderError, action: str, *, was_lost: bool) -> NextStep:
    """Return what to do next.

    Args:
        error: What CreateLaunchTemplate or CreateFleet failed with.
        action: The name of the call that failed.
        was_lost: Whether the response to an earlier request for this fleet was lost.
    """
    return _NEXT[failure_of(error, action)][was_lost]


def failure_of(error: ProviderError, action: str) -> FleetFailure:
    """Return the kind of failure of a CreateLaunchTemplate or CreateFleet call."""
    if error.code == _OTHER_PARAMETERS:
        return FleetFailure.OTHER_PARAMETERS
    if error.code in _NO_TEMPLATE:
        return FleetFailure.NO_TEMPLATE
    if error.code in THROTTLED:
        return FleetFailure.THROTTLED
    if isinstance(error, UnreachableError):
        return FleetFailure.NO_RESPONSE
    if action == "CreateFleet" and error.code and error.code not in DENIED:
        return FleetFailure.FLEET_REJECTED
    return FleetFailure.OTHER
