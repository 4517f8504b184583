"""The permissions at AWS that this library uses: by whom, on which resources, for what. See ``permissions``.

The names are those of https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html.
"""

from typing import Final

from taskfleet.clouds.aws_bucket_permissions import BUCKETS
from taskfleet.clouds.permissions import (
    LISTERS,
    POOL,
    TERMINATORS,
    Condition,
    Grant,
    Permission,
    Permissions,
    Use,
    Who,
)

#: For permissions that cannot be restricted to resources, or for public resources: filters are not authorisation.
ANYTHING: Final = ("*",)
INSTANCES: Final = "arn:aws:ec2:*:{account}:instance/*"
VOLUMES: Final = "arn:aws:ec2:*:{account}:volume/*"
INTERFACES: Final = "arn:aws:ec2:*:{account}:network-interface/*"
TEMPLATES: Final = "arn:aws:ec2:*:{account}:launch-template/*"
FLEETS: Final = "arn:aws:ec2:*:{account}:fleet/*"
#: Resources that launches refer to and that do not belong to a job.
PARTS: Final = (
    "arn:aws:ec2:*::image/*",
    "arn:aws:ec2:*::snapshot/*",
    "arn:aws:ec2:*:{account}:subnet/*",
    "arn:aws:ec2:*:{account}:security-group/*",
    "arn:aws:ec2:*:{account}:key-pair/*",
)
ROLE: Final = "arn:aws:iam::{account}:role/{role}"
SPOT_ROLE: Final = "arn:aws:iam::{account}:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"
PUBLIC_PARAMETERS: Final = "arn:aws:ssm:*::parameter/aws/service/*"
TASKS: Final = "arn:aws:sqs:*:{account}:{queue}"
EVENTS: Final = "arn:aws:sqs:*:{account}:{queue}-events"
#: The notice board, which exists only if BUCKET is not set and a task was cancelled or the job paused.
BOARD: Final = "arn:aws:sqs:*:{account}:{queue}-board"
#: The queues of the managers of a job; no other job has a queue of such a name, see ``settings.parsers.queue_url``.
MANAGERS: Final = "arn:aws:sqs:*:{account}:{queue}--*"
WORK_QUEUES: Final = (TASKS, MANAGERS, EVENTS)
QUEUES: Final = (*WORK_QUEUES, BOARD)

TAGGED: Final = Condition(
    "the resource has the tag taskfleet:job", (("StringLike", "aws:ResourceTag/taskfleet:job", "*"),)
)
BEING_TAGGED: Final = Condition(
    "the request sets the tag taskfleet:job", (("StringLike", "aws:RequestTag/taskfleet:job", "*"),)
)
TAGGED_MACHINE: Final = Condition(
    "the request sets the tag taskfleet:job and requires IMDSv2",
    (
        ("StringLike", "aws:RequestTag/taskfleet:job", "*"),
        ("StringEquals", "ec2:MetadataHttpTokens", "required"),
    ),
)
TAGGED_ON_CREATION: Final = Condition(
    "one of the calls above creates the resource and sets the tag taskfleet:job",
    (
        ("StringLike", "aws:RequestTag/taskfleet:job", "*"),
        ("StringEquals", "ec2:CreateAction", "CreateLaunchTemplate"),
        ("StringEquals", "ec2:CreateAction", "RunInstances"),
    ),
)
PASSED_TO_EC2: Final = Condition(
    "the role is passed to EC2", (("StringEquals", "iam:PassedToService", "ec2.amazonaws.com"),)
)
FOR_SPOT: Final = Condition(
    "the role is the one for spot instances", (("StringEquals", "iam:AWSServiceName", "spot.amazonaws.com"),)
)


def _plain(name: str, use: Use, purpose: str, who: tuple[Who, ...] = POOL, only_if: str = "") -> Permission:
    """Return a permission that cannot be restricted to resources."""
    return Permission(name=name, use=use, purpose=purpose, grants=(Grant(who, ANYTHING, only_if=only_if),))


AWS: Final = Permissions(
    [
        _plain("ec2:DescribeRegions", Use.CHOOSE, "lists the regions"),
        _plain("ec2:DescribeAvailabilityZones", Use.CHOOSE, "lists a region's zones"),
        _plain("ec2:DescribeInstanceTypes", Use.CHOOSE, "reads the sizes of instance types"),
        _plain("ec2:DescribeInstanceTypeOfferings", Use.CHOOSE, "reads which zones offer which instance types"),
        _plain("ec2:DescribeSpotPriceHistory", Use.CHOOSE, "reads spot prices"),
        _plain("pricing:GetProducts", Use.CHOOSE, "reads on-demand and disk prices; called in us-east-1"),
        Permission(
            name="ssm:GetParameters",
            use=Use.START,
            purpose="reads the ids of the latest images of Ubuntu, Debian and Amazon Linux",
            grants=(Grant(POOL, (PUBLIC_PARAMETERS,), only_if="IMAGE is not set"),),
        ),
        _plain("ec2:DescribeImages", Use.START, "reads the architecture and size of an image"),
        _plain("ec2:DescribeSubnets", Use.START, "finds a subnet in each zone"),
        _plain(
            "ec2:DescribeSecurityGroups",
            Use.START,
            "checks that the security groups exist",
            only_if="SECURITY_GROUPS is set",
        ),
        Permission(
            name="ec2:CreateLaunchTemplate",
            use=Use.START,
            purpose="stores the common configuration of the machines of a launch request",
            grants=(Grant(POOL, (TEMPLATES,), BEING_TAGGED),),
        ),
        Permission(
            name="ec2:CreateFleet",
            use=Use.START,
            purpose="launches machines",
            grants=(
                Grant(POOL, (FLEETS, INSTANCES, VOLUMES, INTERFACES, *PARTS)),
                Grant(POOL, (TEMPLATES,), TAGGED),
            ),
        ),
        Permission(
            name="ec2:RunInstances",
            use=Use.START,
            purpose="used by a fleet to start its instances, on behalf of its creator",
            grants=(
                Grant(POOL, PARTS),
                Grant(POOL, (TEMPLATES,), TAGGED),
                Grant(POOL, (INSTANCES,), TAGGED_MACHINE),
                Grant(POOL, (VOLUMES, INTERFACES), BEING_TAGGED),
            ),
        ),
        Permission(
            name="ec2:CreateTags",
            use=Use.START,
            purpose="tags all created resources with the job, so that they can be found",
            grants=(Grant(POOL, (INSTANCES, VOLUMES, INTERFACES, TEMPLATES), TAGGED_ON_CREATION),),
        ),
        Permission(
            name="iam:PassRole",
            use=Use.START,
            purpose="assigns the role to machines",
            grants=(Grant(POOL, (ROLE,), PASSED_TO_EC2, only_if="INSTANCE_PROFILE is set"),),
        ),
        Permission(
            name="iam:CreateServiceLinkedRole",
            use=Use.ONCE,
            purpose="AWS creates its own role for spot instances with the first one",
            grants=(Grant(POOL, (SPOT_ROLE,), FOR_SPOT, only_if="the account has never had a spot instance"),),
        ),
        _plain("ec2:DescribeInstances", Use.LOOK, "lists the machines", LISTERS),
        Permission(
            name="ec2:GetConsoleOutput",
            use=Use.LOOK,
            purpose="reads console output",
            grants=(Grant(LISTERS, (INSTANCES,), TAGGED),),
        ),
        Permission(
            name="ec2:TerminateInstances",
            use=Use.END,
            purpose="terminates machines",
            grants=(Grant(TERMINATORS, (INSTANCES,), TAGGED),),
        ),
        _plain("ec2:DescribeLaunchTemplates", Use.CLEAR, "finds the job's launch templates", TERMINATORS),
        _plain("ec2:DescribeVolumes", Use.CLEAR, "finds disks that remained after their machines", TERMINATORS),
        _plain(
            "ec2:DescribeNetworkInterfaces",
            Use.CLEAR,
            "finds network interfaces that remained after their machines",
            TERMINATORS,
        ),
        Permission(
            name="ec2:DeleteLaunchTemplate",
            use=Use.CLEAR,
            purpose="removes launch templates",
            grants=(Grant(TERMINATORS, (TEMPLATES,), TAGGED),),
        ),
        Permission(
            name="ec2:DeleteVolume",
            use=Use.CLEAR,
            purpose="removes disks",
            grants=(Grant(TERMINATORS, (VOLUMES,), TAGGED),),
        ),
        Permission(
            name="ec2:DeleteNetworkInterface",
            use=Use.CLEAR,
            purpose="removes network interfaces",
            grants=(Grant(TERMINATORS, (INTERFACES,), TAGGED),),
        ),
        _plain(
            "sts:DecodeAuthorizationMessage",
            Use.EXPLAIN,
            "decodes which permission is missing",
            only_if="the error does not name it",
        ),
        *BUCKETS,
        Permission(
            name="sqs:CreateQueue",
            use=Use.QUEUE,
            purpose="creates the queues of a job",
            grants=(Grant((Who.QUEUE,), QUEUES),),
        ),
        Permission(
            name="sqs:TagQueue", use=Use.QUEUE, purpose="tags them with the job", grants=(Grant((Who.QUEUE,), QUEUES),)
        ),
        Permission(
            name="sqs:DeleteQueue", use=Use.QUEUE, purpose="deletes them", grants=(Grant((Who.QUEUE,), QUEUES),)
        ),
        Permission(
            name="sqs:PurgeQueue", use=Use.QUEUE, purpose="empties a queue", grants=(Grant((Who.QUEUE,), WORK_QUEUES),)
        ),
        Permission(
            name="sqs:GetQueueUrl",
            use=Use.QUEUE,
            purpose="finds a queue by its name",
            grants=(Grant((Who.QUEUE, Who.MACHINE), QUEUES),),
        ),
        Permission(
            name="sqs:GetQueueAttributes",
            use=Use.QUEUE,
            purpose="checks whether a queue exists, and its approximate size",
            grants=(Grant((Who.QUEUE,), QUEUES), Grant((Who.MACHINE,), WORK_QUEUES)),
        ),
        Permission(
            name="sqs:SendMessage",
            use=Use.QUEUE,
            purpose="inserts tasks; tells workers on the notice board that tasks are cancelled, or the job is paused",
            grants=(
                Grant((Who.QUEUE,), (TASKS, MANAGERS, BOARD)),
                Grant((Who.MACHINE,), WORK_QUEUES, purpose="sends tasks for another attempt, and events"),
            ),
            calls=("sqs:SendMessageBatch",),
        ),
        Permission(
            name="sqs:ReceiveMessage",
            use=Use.QUEUE,
            purpose="receives events, and samples tasks",
            grants=(
                Grant((Who.QUEUE,), (TASKS, EVENTS, BOARD)),
                Grant((Who.MACHINE,), (TASKS, MANAGERS, BOARD), purpose="receives tasks, and reads the notice board"),
            ),
        ),
        Permission(
            name="sqs:DeleteMessage",
            use=Use.QUEUE,
            purpose="deletes processed messages",
            grants=(Grant((Who.QUEUE,), (TASKS, EVENTS, BOARD)), Grant((Who.MACHINE,), (TASKS, MANAGERS))),
            calls=("sqs:DeleteMessageBatch",),
        ),
        Permission(
            name="sqs:ChangeMessageVisibility",
            use=Use.QUEUE,
            purpose="extends leases and returns tasks",
            grants=(Grant((Who.QUEUE,), (TASKS,)), Grant((Who.MACHINE,), (TASKS, MANAGERS))),
            calls=("sqs:ChangeMessageVisibilityBatch",),
        ),
    ]
)
