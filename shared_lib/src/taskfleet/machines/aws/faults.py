"""What EC2 says of machines that it does not start: a refusal of an offer, or a fault of the account or the settings."""

from taskfleet.clouds.aws_errors import CREDENTIALS, DENIED, KEYS, THROTTLED, ErrorReply, denial
from taskfleet.errors import (
    CredentialsError,
    NotEnabledError,
    PermissionDeniedError,
    ProviderError,
    WrongSettingError,
)
from taskfleet.machines import FailureReason

#: By error code: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. Those that end in LimitExceeded and the like
#: are quotas.
_REFUSALS = {
    **dict.fromkeys(THROTTLED, FailureReason.THROTTLED),
    "RequestThrottledException": FailureReason.THROTTLED,
    "RequestResourceCountExceeded": FailureReason.THROTTLED,
    "ConcurrentTagAccess": FailureReason.THROTTLED,
    "SpotMaxPriceTooLow": FailureReason.PRICE,
    "PendingVerification": FailureReason.QUOTA,
    "InsufficientAddressCapacity": FailureReason.STOCK_OUT,
    "InsufficientCapacity": FailureReason.STOCK_OUT,
    "InsufficientCapacityOnHost": FailureReason.STOCK_OUT,
    "InsufficientFreeAddressesInSubnet": FailureReason.STOCK_OUT,
    "InsufficientHostCapacity": FailureReason.STOCK_OUT,
    "InsufficientInstanceCapacity": FailureReason.STOCK_OUT,
    "InsufficientVolumeCapacity": FailureReason.STOCK_OUT,
    "UnfulfillableCapacity": FailureReason.STOCK_OUT,
    # an internal error of AWS: elsewhere, or later
    "InternalError": FailureReason.STOCK_OUT,
    "InternalFailure": FailureReason.STOCK_OUT,
    "InternalServiceException": FailureReason.STOCK_OUT,
    "ServiceUnavailable": FailureReason.STOCK_OUT,
    "Unavailable": FailureReason.STOCK_OUT,
}
_QUOTA_ENDINGS = ("LimitExceeded", "CountExceeded", "QuotaExceeded")
_IMAGE = ("IMAGE", "Set IMAGE to an image that is there, see poe list_images; an image is of one region.")
_GROUPS = ("SECURITY_GROUPS", "Check SECURITY_GROUPS; they have to be of the same network as the subnets.")
_SUBNETS = ("SUBNETS", "Check SUBNETS.")
#: Which setting is to blame, and no single offer: how the code begins, the setting, and what to do.
_SETTINGS = {
    "InvalidAMIID": _IMAGE,
    "InvalidAMI": _IMAGE,
    "OptInRequired": ("IMAGE", "IMAGE has to be subscribed to in the AWS Marketplace first."),
    "InvalidSubnetID": _SUBNETS,
    "InvalidSubnet": _SUBNETS,
    "InvalidGroup": _GROUPS,
    "InvalidSecurityGroupID": _GROUPS,
    "InvalidSecurity": _GROUPS,
    "InvalidKeyPair": ("KEY_NAME", "Check KEY_NAME; a key pair is of one region."),
    "InvalidUserData": ("START_UP_SCRIPT", "Make the start-up script shorter, see START_UP_SCRIPT."),
    "InvalidIamInstanceProfile": ("INSTANCE_PROFILE", "Check INSTANCE_PROFILE."),
}
_SERVICE_ROLE = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"


def failure_reason_of(code: str) -> FailureReason:
    """Say what an error code of EC2 means for machines that were ordered."""
    if code in _REFUSALS:
        return _REFUSALS[code]
    return FailureReason.QUOTA if code.endswith(_QUOTA_ENDINGS) else FailureReason.INVALID


def fault_of(reply: ErrorReply, region: str) -> ProviderError | None:
    """Say what is wrong with the account or the settings; None if an error is about a single offer, or passes.

    Args:
        reply: EC2's.
        region: Where.
    """
    code, text, _ = reply
    label = f"AWS EC2 in {region}"
    if code in DENIED:
        return denial(label, reply, "ec2:RunInstances")
    if code in CREDENTIALS:
        return CredentialsError(f"{label}: {CREDENTIALS[code]} ({code})", code=code)
    if code == "AuthFailure":
        return CredentialsError(f"{label}: AWS does not accept these credentials there. {KEYS} ({text})", code=code)
    if code == _SERVICE_ROLE:
        return PermissionDeniedError(
            f"{label}: spot machines need a role in this account that these credentials may not make. Have it made once, with: "
            "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com.",
            permission="iam:CreateServiceLinkedRole",
            resource="spot.amazonaws.com",
            code=code,
        )
    if code.partition(".")[0] == "Blocked":
        return NotEnabledError(
            f"{label}: {text.rstrip('.')}. AWS has blocked this account: write to aws-verification@amazon.com. ({code})",
            service="ec2",
            code=code,
        )
    if code == "InvalidParameterValue" and "nstanceProfile" in text:
        return WrongSettingError(
            f"{label}: {text.rstrip('.')}. Check INSTANCE_PROFILE; one that was made just now is known after some seconds.",
            setting="INSTANCE_PROFILE",
            code=code,
        )
    if (found := _SETTINGS.get(code.partition(".")[0])) is not None:
        setting, advice = found
        return WrongSettingError(f"{label}: {text.rstrip('.')}. {advice} ({code})", setting=setting, code=code)
    return None
