"""EC2's error codes: which are about an offer, and which about the account or a setting."""

import re

from taskfleet.clouds.aws_errors import CREDENTIALS, DENIED, KEYS, THROTTLED, ErrorReply, denial
from taskfleet.errors import (
    CredentialsError,
    NotEnabledError,
    PermissionDeniedError,
    ProviderError,
    WrongSettingError,
)
from taskfleet.invocation import poe
from taskfleet.machines import FailureReason

#: By error code: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html. Other codes that end in LimitExceeded and
#: the like are quotas.
_FAILURE_REASONS = {
    **dict.fromkeys(THROTTLED, FailureReason.THROTTLED),
    "RequestThrottledException": FailureReason.THROTTLED,
    "RequestResourceCountExceeded": FailureReason.THROTTLED,
    "ConcurrentTagAccess": FailureReason.THROTTLED,
    "SpotMaxPriceTooLow": FailureReason.PRICE,
    "InsufficientAddressCapacity": FailureReason.STOCK_OUT,
    "InsufficientCapacity": FailureReason.STOCK_OUT,
    "InsufficientCapacityOnHost": FailureReason.STOCK_OUT,
    "InsufficientFreeAddressesInSubnet": FailureReason.STOCK_OUT,
    "InsufficientHostCapacity": FailureReason.STOCK_OUT,
    "InsufficientInstanceCapacity": FailureReason.STOCK_OUT,
    "InsufficientVolumeCapacity": FailureReason.STOCK_OUT,
    "UnfulfillableCapacity": FailureReason.STOCK_OUT,
    # internal errors of AWS: another offer may work, or the same one later
    "InternalError": FailureReason.STOCK_OUT,
    "InternalFailure": FailureReason.STOCK_OUT,
    "InternalServiceException": FailureReason.STOCK_OUT,
    "ServiceUnavailable": FailureReason.STOCK_OUT,
    "Unavailable": FailureReason.STOCK_OUT,
}
_QUOTA_ENDINGS = ("LimitExceeded", "CountExceeded", "QuotaExceeded")
_IMAGE = ("IMAGE", "Set IMAGE to an image of that region; {list_images} lists the current ones.")
_DISK = ("BOOT_DISK_GIB", "Check BOOT_DISK_GIB, BOOT_DISK_IOPS and BOOT_DISK_MIBPS.")
_KEY = (
    "IMAGE",
    "Check the key that encrypts the disk of IMAGE, or the default key for disks: machines must be allowed to use it.",
)
_GROUPS = ("SECURITY_GROUPS", "Check SECURITY_GROUPS: they must belong to the same VPC as the subnets.")
_SUBNETS = ("SUBNETS", "Check SUBNETS.")
#: By how the error code begins: the setting that is wrong, and what to do.
_SETTINGS = {
    "InvalidAMIID": _IMAGE,
    "InvalidAMI": _IMAGE,
    "OptInRequired": ("IMAGE", "Subscribe to the IMAGE in the AWS Marketplace first."),
    "InvalidSubnetID": _SUBNETS,
    "InvalidSubnet": _SUBNETS,
    "InvalidGroup": _GROUPS,
    "InvalidSecurityGroupID": _GROUPS,
    "InvalidSecurity": _GROUPS,
    "SecurityGroupsPerInterfaceLimitExceeded": ("SECURITY_GROUPS", "Set fewer SECURITY_GROUPS."),
    "SecurityGroupsPerInstanceLimitExceeded": ("SECURITY_GROUPS", "Set fewer SECURITY_GROUPS."),
    "DefaultVpcDoesNotExist": _SUBNETS,
    "InvalidVpcID": _SUBNETS,
    "MissingInput": _SUBNETS,
    "VPCIdNotSpecified": _SUBNETS,
    "VPCResourceNotSpecified": _SUBNETS,
    "InvalidSnapshot": _IMAGE,
    "InvalidBlockDeviceMapping": _DISK,
    "InvalidKMSKey": _KEY,
    "InvalidKmsKeyId": _KEY,
    "KMSKeyNotAccessibleFault": _KEY,
    "InvalidKeyPair": ("KEY_NAME", "Check KEY_NAME: a key pair exists in one region."),
    "InvalidUserData": ("START_UP_SCRIPT", "Shorten the start-up script, see START_UP_SCRIPT."),
    "InvalidIamInstanceProfile": ("INSTANCE_PROFILE", "Check INSTANCE_PROFILE."),
}
#: Something is missing or superfluous in the request, or not allowed for the account, whatever the offer.
_BAD_REQUEST = {
    "InvalidAction",
    "InvalidInput",
    "InvalidQueryParameter",
    "InvalidRequest",
    "InvalidTagKey",
    "MalformedQueryString",
    "MissingParameter",
    "TagLimitExceeded",
    "TagPolicyViolation",
    "UnknownParameter",
    "UnsupportedProtocol",
    "ValidationError",
}
_PARAMETER = ("InvalidParameterCombination", "InvalidParameterValue", "MissingParameter")
_ABOUT_DISK = re.compile(r"\b(iops|throughput|volumes?)\b", re.IGNORECASE)
_SERVICE_ROLE = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"


def failure_reason_of(code: str) -> FailureReason:
    """Return the reason for a failed launch that an EC2 error code stands for."""
    if code in _FAILURE_REASONS:
        return _FAILURE_REASONS[code]
    return FailureReason.QUOTA if code.endswith(_QUOTA_ENDINGS) else FailureReason.INVALID


def account_error(reply: ErrorReply, region: str) -> ProviderError | None:
    """Return the error if it is about the account or a setting; None if it is about a single offer, or temporary.

    Args:
        reply: EC2's error.
        region: The region that was called.
    """
    code, text, _ = reply
    label = f"AWS EC2 in {region}"
    if code in DENIED:
        return denial(label, reply, "ec2:RunInstances")
    if code in CREDENTIALS:
        return CredentialsError(f"{label}: {CREDENTIALS[code]} ({code})", code=code)
    if code == "AuthFailure":
        return CredentialsError(f"{label}: AWS rejects these credentials in this region. {KEYS} ({text})", code=code)
    if code == _SERVICE_ROLE:
        return PermissionDeniedError(
            f"{label}: spot instances need a service-linked role in this account, which these credentials cannot create. Ask an "
            "administrator to run once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com.",
            permission="iam:CreateServiceLinkedRole",
            resource="spot.amazonaws.com",
            code=code,
        )
    if code == "PendingVerification":
        return NotEnabledError(
            f"{label}: AWS is still verifying this account, which can take some hours. Try again later, or contact "
            f"aws-verification@amazon.com. ({text.rstrip('.')})",
            service="ec2",
            code=code,
        )
    if (found := _setting_of(code, text)) is not None:
        setting, advice = found
        advice = advice.format(list_images=poe("list_images"))
        return WrongSettingError(f"{label}: {text.rstrip('.')}. {advice} ({code})", setting=setting, code=code)
    if code.partition(".")[0] in _BAD_REQUEST:
        return ProviderError(f"{label} rejects the request: {text.rstrip('.')} ({code})", code=code)
    if code.partition(".")[0] == "Blocked":
        return NotEnabledError(
            f"{label}: {text.rstrip('.')}. AWS has blocked this account: contact aws-verification@amazon.com. ({code})",
            service="ec2",
            code=code,
        )
    if code == "InvalidParameterValue" and "nstanceProfile" in text:
        return WrongSettingError(
            f"{label}: {text.rstrip('.')}. Check INSTANCE_PROFILE; a new instance profile takes some seconds to become available.",
            setting="INSTANCE_PROFILE",
            code=code,
        )
    return None


def _setting_of(code: str, text: str) -> tuple[str, str] | None:
    """Return the setting that an error is about, and what to do; None if it is not about one."""
    if code in _PARAMETER and _ABOUT_DISK.search(text):
        return _DISK
    if code == "InvalidParameter" and "belong to different networks" in text:
        return _GROUPS
    return _SETTINGS.get(code.partition(".")[0])
