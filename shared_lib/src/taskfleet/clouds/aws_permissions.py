"""The permissions at AWS that this library uses: by whom, on which resources, for what. See ``permissions``.

The names are those of https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html.
"""

from typing import Final

from taskfleet.clouds.permissions import Condition, Grant, Permission, Permissions, Use, Who

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
BUCKET: Final = "arn:aws:s3:::{bucket}"
BUNDLES: Final = "arn:aws:s3:::{bucket}/{folder}taskfleet-bundles/*"
TABLE: Final = "arn:aws:s3:::{table}"
TASKS: Final = "arn:aws:sqs:*:{account}:{queue}"
EVENTS: Final = "arn:aws:sqs:*:{account}:{queue}-events"
QUEUES: Final = (TASKS, EVENTS)

TAGGED: Final = Condition("it carries the tag taskfleet:job", (("StringLike", "aws:ResourceTag/taskfleet:job", "*"),))
BEING_TAGGED: Final = Condition(
    "the request gives it the tag taskfleet:job", (("StringLike", "aws:RequestTag/taskfleet:job", "*"),)
)
TAGGED_MACHINE: Final = Condition(
    "the request gives it the tag taskfleet:job and demands version 2 of the metadata service",
    (
        ("StringLike", "aws:RequestTag/taskfleet:job", "*"),
        ("StringEquals", "ec2:MetadataHttpTokens", "required"),
    ),
)
TAGGED_ON_CREATION: Final = Condition(
    "it is being created by one of the calls above, and gets the tag taskfleet:job",
    (
        ("StringLike", "aws:RequestTag/taskfleet:job", "*"),
        ("StringEquals", "ec2:CreateAction", "CreateLaunchTemplate"),
        ("StringEquals", "ec2:CreateAction", "RunInstances"),
    ),
)
PASSED_TO_EC2: Final = Condition("it is passed to EC2", (("StringEquals", "iam:PassedToService", "ec2.amazonaws.com"),))
FOR_SPOT: Final = Condition(
    "it is the role for spot instances", (("StringEquals", "iam:AWSServiceName", "spot.amazonaws.com"),)
)
BUNDLES_ONLY: Final = Condition("bundles are listed", (("StringLike", "s3:prefix", "{folder}taskfleet-bundles/*"),))

_POOL: Final = (Who.POOL,)
_TERMINATORS: Final = (Who.POOL, Who.TEARDOWN)
_LISTERS: Final = (Who.POOL, Who.TEARDOWN, Who.WATCHER)


def _plain(name: str, use: Use, purpose: str, who: tuple[Who, ...] = _POOL, only_if: str = "") -> Permission:
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
            grants=(Grant(_POOL, (PUBLIC_PARAMETERS,), only_if="IMAGE is not set"),),
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
            grants=(Grant(_POOL, (TEMPLATES,), BEING_TAGGED),),
        ),
        Permission(
            name="ec2:CreateFleet",
            use=Use.START,
            purpose="launches machines",
            grants=(
                Grant(_POOL, (FLEETS, INSTANCES, VOLUMES, INTERFACES, *PARTS)),
                Grant(_POOL, (TEMPLATES,), TAGGED),
            ),
        ),
        Permission(
            name="ec2:RunInstances",
            use=Use.START,
            purpose="used by a fleet to start its instances, on behalf of its creator",
            grants=(
                Grant(_POOL, PARTS),
                Grant(_POOL, (TEMPLATES,), TAGGED),
                Grant(_POOL, (INSTANCES,), TAGGED_MACHINE),
                Grant(_POOL, (VOLUMES, INTERFACES), BEING_TAGGED),
            ),
        ),
        Permission(
            name="ec2:CreateTags",
            use=Use.START,
            purpose="tags all created resources with the job, so that they can be found",
            grants=(Grant(_POOL, (INSTANCES, VOLUMES, INTERFACES, TEMPLATES), TAGGED_ON_CREATION),),
        ),
        Permission(
            name="iam:PassRole",
            use=Use.START,
            purpose="assigns the role to machines",
            grants=(Grant(_POOL, (ROLE,), PASSED_TO_EC2, only_if="INSTANCE_PROFILE is set"),),
        ),
        Permission(
            name="iam:CreateServiceLinkedRole",
            use=Use.ONCE,
            purpose="AWS creates its own role for spot instances with the first one",
            grants=(Grant(_POOL, (SPOT_ROLE,), FOR_SPOT, only_if="the account has never had a spot instance"),),
        ),
        _plain("ec2:DescribeInstances", Use.LOOK, "lists the machines", _LISTERS),
        Permission(
            name="ec2:GetConsoleOutput",
            use=Use.LOOK,
            purpose="reads console output",
            grants=(Grant(_LISTERS, (INSTANCES,), TAGGED),),
        ),
        Permission(
            name="ec2:TerminateInstances",
            use=Use.END,
            purpose="terminates machines",
            grants=(Grant(_TERMINATORS, (INSTANCES,), TAGGED),),
        ),
        _plain("ec2:DescribeLaunchTemplates", Use.CLEAR, "finds the job's launch templates", _TERMINATORS),
        _plain("ec2:DescribeVolumes", Use.CLEAR, "finds disks that remained after their machines", _TERMINATORS),
        _plain(
            "ec2:DescribeNetworkInterfaces",
            Use.CLEAR,
            "finds network interfaces that remained after their machines",
            _TERMINATORS,
        ),
        Permission(
            name="ec2:DeleteLaunchTemplate",
            use=Use.CLEAR,
            purpose="removes launch templates",
            grants=(Grant(_TERMINATORS, (TEMPLATES,), TAGGED),),
        ),
        Permission(
            name="ec2:DeleteVolume",
            use=Use.CLEAR,
            purpose="removes disks",
            grants=(Grant(_TERMINATORS, (VOLUMES,), TAGGED),),
        ),
        Permission(
            name="ec2:DeleteNetworkInterface",
            use=Use.CLEAR,
            purpose="removes network interfaces",
            grants=(Grant(_TERMINATORS, (INTERFACES,), TAGGED),),
        ),
        _plain(
            "sts:DecodeAuthorizationMessage",
            Use.EXPLAIN,
            "decodes which permission is missing",
            only_if="the error does not name it",
        ),
        Permission(
            name="s3:PutObject",
            use=Use.CODE,
            purpose="uploads a bundle of the project's code",
            grants=(Grant(_POOL, (BUNDLES,)),),
        ),
        Permission(
            name="s3:GetObject",
            use=Use.CODE,
            purpose="checks whether a bundle exists",
            grants=(
                Grant(_POOL, (BUNDLES,)),
                Grant((Who.MACHINE,), (BUNDLES,), purpose="downloads the project's code"),
                Grant((Who.QUEUE,), (TABLE,), only_if="TASK_TABLE is in S3", purpose="reads the table"),
            ),
            calls=("s3:HeadObject",),
        ),
        Permission(
            name="s3:DeleteObject",
            use=Use.CODE,
            purpose="removes the job's bundles",
            grants=(Grant(_TERMINATORS, (BUNDLES,)),),
        ),
        Permission(
            name="s3:ListBucket",
            use=Use.CODE,
            purpose="lists the job's bundles; finds the bucket's region, which AWS reports even when access is denied",
            grants=(Grant(_TERMINATORS, (BUCKET,), BUNDLES_ONLY),),
            calls=("s3:ListObjectsV2", "s3:HeadBucket"),
        ),
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
            name="sqs:PurgeQueue", use=Use.QUEUE, purpose="empties a queue", grants=(Grant((Who.QUEUE,), QUEUES),)
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
            grants=(Grant((Who.QUEUE, Who.MACHINE), QUEUES),),
        ),
        Permission(
            name="sqs:SendMessage",
            use=Use.QUEUE,
            purpose="inserts tasks",
            grants=(
                Grant((Who.QUEUE,), QUEUES),
                Grant((Who.MACHINE,), QUEUES, purpose="sends tasks for another attempt, and events"),
            ),
            calls=("sqs:SendMessageBatch",),
        ),
        Permission(
            name="sqs:ReceiveMessage",
            use=Use.QUEUE,
            purpose="receives events, and samples tasks",
            grants=(Grant((Who.QUEUE,), QUEUES), Grant((Who.MACHINE,), (TASKS,), purpose="receives tasks")),
        ),
        Permission(
            name="sqs:DeleteMessage",
            use=Use.QUEUE,
            purpose="deletes processed messages",
            grants=(Grant((Who.QUEUE,), QUEUES), Grant((Who.MACHINE,), (TASKS,))),
            calls=("sqs:DeleteMessageBatch",),
        ),
        Permission(
            name="sqs:ChangeMessageVisibility",
            use=Use.QUEUE,
            purpose="extends leases and returns tasks",
            grants=(Grant((Who.QUEUE,), QUEUES), Grant((Who.MACHINE,), (TASKS,))),
            calls=("sqs:ChangeMessageVisibilityBatch",),
        ),
    ]
)
