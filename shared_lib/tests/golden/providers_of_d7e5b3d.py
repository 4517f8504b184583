"""What providers answer, made up for the golden files of d7e5b3d and read by that commit's own code; see ``make_d7e5b3d.py``."""

import hashlib
import os
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import google.auth.exceptions as auth
from botocore import exceptions
from google.api_core import exceptions as google_errors
from google.cloud import compute_v1
from taskfleet.errors import MachinesError
from taskfleet.machines import MachineState, Order, Refusal
from taskfleet.machines.aws import AwsMachines
from taskfleet.machines.aws_answers import read_fleet, read_instance
from taskfleet.machines.aws_faults import explain_setting, trouble_of
from taskfleet.machines.aws_regions import Region, Regions, Wishes
from taskfleet.machines.choosing import Offer
from taskfleet.machines.gcp import GcpMachines
from taskfleet.machines.gcp_bodies import JOB_LABEL, ORDER_LABEL, check_name, check_script
from taskfleet.machines.gcp_faults import explain
from taskfleet.machines.gcp_images import find
from taskfleet.machines.gcp_launch import Launch
from taskfleet.machines.gcp_refusals import Fault, of_operation, of_request
from taskfleet.machines.local import PID, LocalMachines
from taskfleet.machines.terms import Architecture, Market
from taskfleet.pool.start_up import GitCode, ImageCode, UserScripts
from taskfleet.pool.start_up import script as start_up_script

BASE = 1_790_000_000.0
"""When it all begins: in September 2026."""


# --- what machines cost ---


def offer(instance_type, zone, market=Market.SPOT, usd=0.1, slots=2):
    return Offer(usd / slots, 0, instance_type, market, zone, usd, usd, slots, "gp3", 20.0, slots, 4.0 * slots)


LOCAL = (offer("local", "host-a", Market.ON_DEMAND, 0.0),)

AWS = (
    offer("c7a.large", "us-east-1a", usd=0.0411),
    offer("c7a.xlarge", "us-east-1b", usd=0.0862, slots=4),
    offer("m7i.large", "us-east-1c", usd=0.0433),
)

AWS_ON_DEMAND = (offer("c7a.large", "us-east-1a", Market.ON_DEMAND, 0.1026),)

GCP = (offer("n2-standard-2", "europe-west4-a", usd=0.0234), offer("n2d-standard-2", "europe-west4-b", usd=0.0241))


# --- machines that are processes ---


def local_reasons():
    """Have real machines of the provider local end in every way; give why each has ended, as it says."""
    ways = {
        "done": ("0", lambda _name: None),
        "code": ("3", lambda _name: None),
        "signal": ("kill", lambda _name: None),
        "terminated": ("wait", lambda name: machines.terminate([name])),
        "lifetime": ("wait", lambda _name: None),
        "killed": ("wait", lambda name: os.kill(int((folder / name / PID).read_text()), signal.SIGKILL)),
    }
    program = (
        "import os, signal, sys, time; what = open(os.environ['TASKFLEET_MACHINE']).read(); "
        "what == 'kill' and os.kill(os.getpid(), 9); what == 'wait' and time.sleep(60); sys.exit(int(what))"
    )
    project = Path("local-project").resolve()
    project.mkdir()
    folder = Path("local.machines").resolve()
    machines = LocalMachines(
        folder, zone="host-a", command=[sys.executable, "-c", program], project=project, environment=os.environ
    )
    found = []
    for how, (what, act) in ways.items():
        order = Order(token=how, number=1, offers=LOCAL, lifetime_seconds=3.0 if how == "lifetime" else 60.0)
        (project / f"{how}-1").write_text(what)
        assert not machines.launch(order).refused
        act(f"{how}-1")
        until(lambda order=order: {one.order: one.state for one in machines.list()}[order.token] is MachineState.ENDED)
        found.append((how, next(one.reason for one in machines.list() if one.order == order.token)))
    return found


def local_faults():
    """Give what keeps a process from being started: a real error with a path, and one of several lines as keepers print them."""
    Path("a-file").write_text("")
    try:
        (Path("a-file") / "host-a").mkdir(parents=True)
    except OSError as error:
        yield error
    yield OSError(
        'Traceback (most recent call last):\n  File "/srv/golden/keeper.py", line 31, in run\n    worker = subprocess.Popen(\n'
        "FileNotFoundError: [Errno 2] No such file or directory: '/srv/golden/.venv/bin/python'"
    )


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- AWS ---

#: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
EC2_ENDINGS = [
    {"code": "Client.UserInitiatedShutdown", "message": "Client.UserInitiatedShutdown: User initiated shutdown"},
    {
        "code": "Client.InstanceInitiatedShutdown",
        "message": "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
    },
    {"code": "Client.VolumeLimitExceeded", "message": "Client.VolumeLimitExceeded: Volume limit exceeded"},
    {
        "code": "Client.InvalidSnapshot.NotFound",
        "message": "Client.InvalidSnapshot.NotFound: The specified snapshot was not found.",
    },
    {"code": "Server.InternalError", "message": "Server.InternalError: Internal error on launch"},
    {
        "code": "Server.InsufficientInstanceCapacity",
        "message": "Server.InsufficientInstanceCapacity: Insufficient capacity to launch instance",
    },
    {"code": "Server.ScheduledStop", "message": "Server.ScheduledStop: Stopped due to scheduled retirement"},
    {"code": "Client.UserInitiatedHibernate"},
    {"transition": "User initiated (2026-09-21 14:13:20 GMT)"},
    {},
    {"code": "Server.SpotInstanceTermination", "message": "Server.SpotInstanceTermination: Spot instance termination"},
    {"code": "Server.SpotInstanceShutdown", "message": "Server.SpotInstanceShutdown: Spot instance shutdown"},
    {"code": "Server.SpotInstanceTermination"},
    {"transition": "Server.SpotInstanceTermination: Instance terminated by the service"},
]


def ec2_reason(code="", message="", transition=""):
    """Give why an instance is gone, as the library reads it."""
    more = {"StateTransitionReason": transition, "State": {"Name": "terminated"}}
    if code:
        more["StateReason"] = {"Code": code, "Message": message}
    return read_instance(ec2_instance("i-0", "order", AWS[0], 0.0, **more)).reason


def ec2_instance(name, order_token, one, now, **more):
    """Describe an instance as EC2 does."""
    lifecycle = {"InstanceLifecycle": "spot"} if one.market is Market.SPOT else {}
    return {
        "InstanceId": name,
        "InstanceType": one.instance_type,
        "LaunchTime": SimpleNamespace(timestamp=lambda: now),
        "Placement": {"AvailabilityZone": one.zone},
        "State": {"Name": "running"},
        "Tags": [{"Key": "taskfleet:job", "Value": "pool"}, {"Key": "taskfleet:order", "Value": order_token}],
        **lifecycle,
        **more,
    }


FLEET_ERRORS = [
    (
        "InsufficientInstanceCapacity",
        "We currently do not have sufficient c7a.large capacity in the zone you requested.",
    ),
    (
        "UnfulfillableCapacity",
        "Unable to fulfill capacity due to your request configuration. Please adjust your request.",
    ),
    ("InternalError", "An internal error has occurred"),
    ("VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of 32 allows"),
    ("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"),
    ("PendingVerification", "Your request for accessing resources in this region is being validated: wait."),
    ("RequestLimitExceeded", "Request limit exceeded."),
    (
        "SpotMaxPriceTooLow",
        "Your Spot request price of 0.01 is lower than the minimum required Spot request fulfillment price.",
    ),
    (
        "Unsupported",
        "Your requested instance type (c7a.large) is not supported in your requested Availability Zone (us-east-1e)",
    ),
    ("InvalidFleetConfiguration", "The configuration\nhas\ttwo lines: one, two."),
    ("", ""),
]

REGION = Region(
    name="us-east-1",
    image="ami-0",
    root_device="/dev/sda1",
    image_gib=8,
    subnets={"us-east-1a": "subnet-a", "us-east-1b": "subnet-b"},
    security_groups=(),
)


def fleet_says(order, code, text, instances=()):
    """Read a fleet's answer that names an error, and these machines."""
    override = {"LaunchTemplateAndOverrides": {"Overrides": {"SubnetId": "subnet-a", "InstanceType": "c7a.large"}}}
    fleet = {"Errors": [{**override, "ErrorCode": code, "ErrorMessage": text}] if code else []}
    if instances:
        fleet["Instances"] = [{**override, "InstanceIds": list(instances)}]
    return read_fleet(fleet, REGION, order.offers, order.number, lambda said: said)


DENIAL = (
    "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/golden is not authorized to perform: "
    "iam:PassRole on resource: arn:aws:iam::123456789012:role/worker because no identity-based policy allows the iam:PassRole action. "
    "Encoded authorization failure message: abcDEF123"
)

ASSUMING = (
    "User: arn:aws:iam::123456789012:user/golden is not authorized to perform: sts:AssumeRole on resource: "
    "arn:aws:iam::123456789012:role/other"
)

SETTING_ERRORS = [
    ("UnauthorizedOperation", DENIAL),
    ("UnauthorizedOperation", "You are not authorized to perform this operation."),
    ("InvalidAMIID.NotFound", "The image id '[ami-00000000000000000]' does not exist"),
    ("InvalidGroup.NotFound", "The security group 'sg-0' does not exist in VPC 'vpc-0'"),
    ("InvalidKeyPair.NotFound", "The key pair 'golden' does not exist"),
    (
        "InvalidParameterValue",
        "Value (golden) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
    ),
    ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "The provided credentials do not have permission."),
    ("AuthFailure", "AWS was not able to validate the provided access credentials"),
    ("OptInRequired", "In order to use this AWS Marketplace product you need to accept terms and subscribe."),
    ("Blocked", "This account is currently blocked and not recognized as a valid account."),
]

WISHES = Wishes(
    job_id="pool",
    run="golden",
    regions=("us-east-1",),
    architecture=Architecture.X86_64,
    image="ami-00000000000000000",
    instance_profile=None,
    security_groups=("sg-0",),
    subnets=("subnet-x",),
    key_name=None,
    external_ip=True,
    boot_disk_iops=0.0,
    boot_disk_mibps=0.0,
)


def aws_troubles():
    """Give what is raised when nothing is started because of the account or the settings."""
    yield from (MachinesError(explain_setting(code, text, "us-east-1")) for code, text in SETTING_ERRORS)
    yield client_error("ExpiredToken", "The security token included in the request is expired")
    yield client_error("InvalidClientTokenId", "The security token included in the request is invalid")
    yield client_error("InvalidParameter", "The parameter X is not valid")
    yield client_error("AccessDenied", ASSUMING, action="AssumeRole")
    for error in (
        exceptions.NoCredentialsError(),
        exceptions.CredentialRetrievalError(provider="sso", error_msg="the token is old"),
        exceptions.ProfileNotFound(profile="golden"),
        exceptions.InvalidRegionError(region_name="us-esat-1"),
    ):
        yield trouble_of(error, service="ec2", action="CreateFleet", region="us-esat-1")
    yield from (raised(action) for action in aws_regions_that_lack_something())
    for environment in ({"API_TOKEN": "x"}, {"not a name": "x"}):
        yield raised(partial(aws_script, environment=environment))
    yield raised(partial(aws_script, code=GitCode(url="https://golden:secret@example.com/repository")))
    yield raised(partial(aws_script, code=GitCode(url="https://example.com/repository", revision="--help")))
    for text in ("#!/bin/sh\n-----BEGIN PRIVATE KEY-----\n", "#!/bin/sh\n\0\n"):
        yield raised(partial(aws_script, scripts=UserScripts(before_worker=text)))
    noise = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(256)) * 3
    yield raised(partial(aws_script, scripts=UserScripts(before_worker=f"#!/bin/sh\n# {noise[::-1]}{noise}\n")))


def client_error(code, text, status=400, action="CreateFleet"):
    answer = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return trouble_of(exceptions.ClientError(answer, action), service="ec2", action="CreateFleet", region="us-east-1")


def aws_regions_that_lack_something():
    """Look at regions without what the settings name."""
    answer = {"Images": [], "Parameters": []}
    page = {"Subnets": [], "SecurityGroups": []}
    calls = SimpleNamespace(ask=lambda *_args, **_more: answer, pages=lambda *_args, **_more: [page])

    def look(**more):
        Regions(calls, replace(WISHES, **more), clock=lambda: BASE).get("us-east-1")

    yield partial(look, image=None)
    yield look
    answer["Images"] = [{"ImageId": WISHES.image, "RootDeviceName": "/dev/sda1", "Architecture": "arm64"}]
    yield look
    answer["Images"][0]["Architecture"] = "x86_64"
    yield look
    yield partial(look, subnets=())
    page["Subnets"] = [
        {"SubnetId": "subnet-x", "VpcId": "vpc-1", "AvailabilityZone": "us-east-1a"},
        {"SubnetId": "subnet-y", "VpcId": "vpc-2", "AvailabilityZone": "us-east-1b"},
    ]
    yield partial(look, subnets=("subnet-x", "subnet-y"))
    page["Subnets"].pop()
    yield look


def aws_script(**more):
    """Make a start-up script as it is made when machines are ordered."""
    usual = {"provider": "aws", "job_id": "pool", "lifetime_seconds": 60.0, "code": ImageCode()}
    return start_up_script(**(usual | more))


def aws_provider(**more):
    return AwsMachines(
        job_id="pool",
        run="golden",
        regions=["us-east-1"],
        architecture=Architecture.X86_64,
        script=lambda _order: "",
        **more,
    )


def raised(action):
    """Give the error that an action raises."""
    try:
        action()
    except MachinesError as error:
        return error
    raise AssertionError("nothing was raised")


# --- Google Cloud ---


def gcp_reason(name, kind="delete", user=""):
    """Give why a machine is gone, from the operation that ended it, as the library reads it."""
    operation = compute_v1.Operation(
        target_link=f"https://compute.googleapis.com/compute/v1/projects/golden-project/zones/europe-west4-a/instances/{name}",
        operation_type=kind,
        status=compute_v1.Operation.Status.DONE,
        insert_time="2026-09-21T14:13:20.000+00:00",
        user=user,
    )
    return gcp_provider()._machine_that_ended(operation, BASE).reason


ZONE = "projects/golden-project/zones/europe-west4-a"

OPERATION_ERRORS = [
    (
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        f"The zone '{ZONE}' does not have enough resources available to fulfill the request.",
    ),
    (
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        f"The zone '{ZONE}' does not have enough resources: '(resource type:compute)'.",
    ),
    ("QUOTA_EXCEEDED", "Quota 'CPUS' exceeded.  Limit: 24.0 in region europe-west4."),
    ("RESOURCE_OPERATION_RATE_EXCEEDED", "Operation rate exceeded for resource."),
    ("INTERNAL_ERROR", "Internal error. Please try again or contact Google Support. (Code: '-1234')"),
    ("UNSUPPORTED_OPERATION", "Instance was preempted during creation."),
    (
        "SERVICE_ACCOUNT_ACCESS_DENIED",
        "The user does not have access to service account 'worker@golden-project.iam.gserviceaccount.com'.",
    ),
    (
        "RESOURCE_NOT_FOUND",
        "The resource 'nobody@golden-project.iam.gserviceaccount.com' of type 'serviceAccount' was not found.",
    ),
    ("RESOURCE_ALREADY_EXISTS", f"The resource '{ZONE}/instances/golden' already exists"),
    ("CONDITION_NOT_MET", "Constraint violated for project golden-project."),
    ("", "no reason given"),
]


def google(kind, text, *reasons):
    """Make an error as Google's client raises it."""
    errors = [{"reason": reason} for reason in reasons]
    return kind(f"POST https://compute.googleapis.com/compute/v1/projects/golden-project/x: {text}", errors=errors)


REQUEST_ERRORS = [
    google(google_errors.Forbidden, "Quota 'C2_CPUS' exceeded. Limit: 8.0 in region europe-west4.", "quotaExceeded"),
    google(google_errors.TooManyRequests, "Slowly.", "rateLimitExceeded"),
    google(google_errors.BadRequest, "Invalid value for field 'resource.machineType': 'x'.", "invalid"),
    google(
        google_errors.Forbidden,
        "Required 'compute.instances.create' permission for 'projects/golden-project/x'",
        "forbidden",
    ),
    google(
        google_errors.Forbidden,
        "Compute Engine API has not been used in project golden-project.",
        "accessNotConfigured",
    ),
    google(
        google_errors.NotFound, "The resource 'projects/golden-project/global/networks/nope' was not found", "notFound"
    ),
    google(google_errors.NotFound, f"The resource '{ZONE}/diskTypes/hyperdisk' was not found", "notFound"),
    google(google_errors.NotFound, "The resource 'projects/golden-project' was not found", "notFound"),
    google(google_errors.Forbidden, "This API method requires billing to be enabled.", "BILLING_DISABLED"),
    google(
        google_errors.Forbidden, "Caller does not have required permission to use project x.", "USER_PROJECT_DENIED"
    ),
    google(google_errors.PreconditionFailed, "Not this one.", "conditionNotMet"),
]


def gcp_faults():
    """Give why machines are not started, by themselves or any other ones."""
    yield from (of_operation([(code, text)] if code else [], "golden-project") for code, text in OPERATION_ERRORS)
    yield from (of_request(error, "golden-project") for error in REQUEST_ERRORS)
    # A machine of that name is there already.
    session = SimpleNamespace(project="golden-project", call=lambda ask, *_: ask())
    there = SimpleNamespace(get=lambda *_args, **_more: SimpleNamespace(labels={}))
    body = SimpleNamespace(name="golden", labels={JOB_LABEL: "pool", ORDER_LABEL: "golden-1"})
    yield Launch(session, "europe-west4-a", 1.0)._look(there, body, None)
    # No image that fits.
    machines = gcp_provider(image="nope")
    nothing = SimpleNamespace(get=gcp_missing, get_from_family=gcp_missing)
    session = SimpleNamespace(**vars(session), client=lambda _kind: nullcontext(nothing), refused=MachinesError)
    error = raised(lambda: find(session, "nope", Architecture.X86_64))
    yield Fault(Refusal.INVALID, str(error), is_general=True)
    machines._found_image = SimpleNamespace(disk_size_gb=50, name="my-big-image")
    yield Fault(Refusal.INVALID, str(raised(lambda: machines._wiring(GCP[0]))), is_general=True)


def gcp_missing(**_more):
    raise google_errors.NotFound("none")


def gcp_provider(**more):
    settings = {"project": "golden-project", "job_id": "pool", "run_name": "golden", "regions": ["europe-west4"]}
    return GcpMachines(script=lambda _order: "", **(settings | more))


def gcp_troubles():
    """Give what is raised when nothing is started because of the account or the settings."""
    yield raised(lambda: gcp_provider(project="").list())
    yield raised(lambda: check_name("1-golden"))
    yield raised(lambda: check_script("x" * 300_000))
    about = {"service": "Compute Engine", "project": "golden-project", "refused": MachinesError}
    yield explain(auth.DefaultCredentialsError("none"), **about)
    yield explain(auth.RefreshError("revoked"), **about)
    yield explain(google(google_errors.Unauthorized, "Request had invalid authentication credentials."), **about)
