"""Which permissions of AWS are used, by whom, on what and why. See ``permissions``.

The names are those of https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html.
"""

from typing import Final

from taskfleet.clouds.permissions import Condition, Grant, Permission, Permissions, Use, Who

#: What these narrow cannot be narrowed, or is everybody's: filters are not authorisation.
ANYTHING: Final = ("*",)
INSTANCES: Final = "arn:aws:ec2:*:{account}:instance/*"
VOLUMES: Final = "arn:aws:ec2:*:{account}:volume/*"
INTERFACES: Final = "arn:aws:ec2:*:{account}:network-interface/*"
TEMPLATES: Final = "arn:aws:ec2:*:{account}:launch-template/*"
FLEETS: Final = "arn:aws:ec2:*:{account}:fleet/*"
#: What machines are made with, and nobody's in particular.
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
TAGGED_AT_BIRTH: Final = Condition(
    "it is just being made by one of the calls above, and gets the tag taskfleet:job",
    (
        ("StringLike", "aws:RequestTag/taskfleet:job", "*"),
        ("StringEquals", "ec2:CreateAction", "CreateLaunchTemplate"),
        ("StringEquals", "ec2:CreateAction", "RunInstances"),
    ),
)
PASSED_TO_EC2: Final = Condition("it is given to EC2", (("StringEquals", "iam:PassedToService", "ec2.amazonaws.com"),))
FOR_SPOT: Final = Condition(
    "it is that of spot machines", (("StringEquals", "iam:AWSServiceName", "spot.amazonaws.com"),)
)
BUNDLES_ONLY: Final = Condition("bundles are listed", (("StringLike", "s3:prefix", "{folder}taskfleet-bundles/*"),))

_POOL: Final = (Who.POOL,)
_ENDERS: Final = (Who.POOL, Who.TEARDOWN)
_LOOKERS: Final = (Who.POOL, Who.TEARDOWN, Who.WATCHER)


def _plain(name: str, use: Use, why: str, who: tuple[Who, ...] = _POOL, only_if: str = "") -> Permission:
    """Make one that cannot be narrowed."""
    return Permission(name=name, use=use, why=why, grants=(Grant(who, ANYTHING, only_if=only_if),))


AWS: Final = Permissions(
    [
        _plain("ec2:DescribeRegions", Use.CHOOSE, "lists the regions"),
        _plain("ec2:DescribeAvailabilityZones", Use.CHOOSE, "lists a region's zones"),
        _plain("ec2:DescribeInstanceTypes", Use.CHOOSE, "tells the sizes of machines"),
        _plain("ec2:DescribeInstanceTypeOfferings", Use.CHOOSE, "tells which zone has which machines"),
        _plain("ec2:DescribeSpotPriceHistory", Use.CHOOSE, "tells the prices of spot machines"),
        _plain("pricing:GetProducts", Use.CHOOSE, "tells all other prices; asked in us-east-1"),
        Permission(
            name="ssm:GetParameters",
            use=Use.START,
            why="tells the ids of the newest images of Ubuntu, Debian and Amazon Linux",
            grants=(Grant(_POOL, (PUBLIC_PARAMETERS,), only_if="IMAGE is not set"),),
        ),
        _plain("ec2:DescribeImages", Use.START, "tells what an image is made for, and how large it is"),
        _plain("ec2:DescribeSubnets", Use.START, "finds a subnet in each zone"),
        _plain(
            "ec2:DescribeSecurityGroups",
            Use.START,
            "sees that the security groups are there",
            only_if="SECURITY_GROUPS is set",
        ),
        Permission(
            name="ec2:CreateLaunchTemplate",
            use=Use.START,
            why="writes down what the machines of an order have in common",
            grants=(Grant(_POOL, (TEMPLATES,), BEING_TAGGED),),
        ),
        Permission(
            name="ec2:CreateFleet",
            use=Use.START,
            why="orders machines",
            grants=(
                Grant(_POOL, (FLEETS, INSTANCES, VOLUMES, INTERFACES, *PARTS)),
                Grant(_POOL, (TEMPLATES,), TAGGED),
            ),
        ),
        Permission(
            name="ec2:RunInstances",
            use=Use.START,
            why="a fleet starts its machines with it, in the name of who ordered it",
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
            why="marks all that is made as the job's, so that it is found again",
            grants=(Grant(_POOL, (INSTANCES, VOLUMES, INTERFACES, TEMPLATES), TAGGED_AT_BIRTH),),
        ),
        Permission(
            name="iam:PassRole",
            use=Use.START,
            why="gives the machines their role",
            grants=(Grant(_POOL, (ROLE,), PASSED_TO_EC2, only_if="INSTANCE_PROFILE is set"),),
        ),
        Permission(
            name="iam:CreateServiceLinkedRole",
            use=Use.ONCE,
            why="AWS needs a role of its own for spot machines, and makes it at the first one",
            grants=(Grant(_POOL, (SPOT_ROLE,), FOR_SPOT, only_if="the account never had a spot machine"),),
        ),
        _plain("ec2:DescribeInstances", Use.LOOK, "lists the machines", _LOOKERS),
        Permission(
            name="ec2:GetConsoleOutput",
            use=Use.LOOK,
            why="shows what a machine printed",
            grants=(Grant(_LOOKERS, (INSTANCES,), TAGGED),),
        ),
        Permission(
            name="ec2:TerminateInstances",
            use=Use.END,
            why="ends machines",
            grants=(Grant(_ENDERS, (INSTANCES,), TAGGED),),
        ),
        _plain("ec2:DescribeLaunchTemplates", Use.CLEAR, "finds the job's launch templates", _ENDERS),
        _plain("ec2:DescribeVolumes", Use.CLEAR, "finds disks that outlived their machines", _ENDERS),
        _plain("ec2:DescribeNetworkInterfaces", Use.CLEAR, "finds network interfaces that outlived them", _ENDERS),
        Permission(
            name="ec2:DeleteLaunchTemplate",
            use=Use.CLEAR,
            why="removes launch templates",
            grants=(Grant(_ENDERS, (TEMPLATES,), TAGGED),),
        ),
        Permission(
            name="ec2:DeleteVolume", use=Use.CLEAR, why="removes disks", grants=(Grant(_ENDERS, (VOLUMES,), TAGGED),)
        ),
        Permission(
            name="ec2:DeleteNetworkInterface",
            use=Use.CLEAR,
            why="removes network interfaces",
            grants=(Grant(_ENDERS, (INTERFACES,), TAGGED),),
        ),
        _plain(
            "sts:DecodeAuthorizationMessage",
            Use.EXPLAIN,
            "reads which permission is missing, where only AWS can",
            only_if="a refusal does not say it",
        ),
        Permission(
            name="s3:PutObject",
            use=Use.CODE,
            why="puts a bundle of the project's code into the bucket",
            grants=(Grant(_POOL, (BUNDLES,)),),
        ),
        Permission(
            name="s3:GetObject",
            use=Use.CODE,
            why="sees whether a bundle is there",
            grants=(
                Grant(_POOL, (BUNDLES,)),
                Grant((Who.MACHINE,), (BUNDLES,), why="gets the project's code"),
                Grant((Who.QUEUE,), (TABLE,), only_if="TASK_TABLE is in S3", why="reads the table"),
            ),
            calls=("s3:HeadObject",),
        ),
        Permission(
            name="s3:DeleteObject",
            use=Use.CODE,
            why="removes the job's bundles",
            grants=(Grant(_ENDERS, (BUNDLES,)),),
        ),
        Permission(
            name="s3:ListBucket",
            use=Use.CODE,
            why="finds the job's bundles; and the bucket's region, which AWS also tells whom it refuses",
            grants=(Grant(_ENDERS, (BUCKET,), BUNDLES_ONLY),),
            calls=("s3:ListObjectsV2", "s3:HeadBucket"),
        ),
        Permission(
            name="sqs:CreateQueue",
            use=Use.QUEUE,
            why="makes the queues of a job",
            grants=(Grant((Who.QUEUE,), QUEUES),),
        ),
        Permission(
            name="sqs:TagQueue", use=Use.QUEUE, why="marks them as the job's", grants=(Grant((Who.QUEUE,), QUEUES),)
        ),
        Permission(name="sqs:DeleteQueue", use=Use.QUEUE, why="deletes them", grants=(Grant((Who.QUEUE,), QUEUES),)),
        Permission(name="sqs:PurgeQueue", use=Use.QUEUE, why="empties a queue", grants=(Grant((Who.QUEUE,), QUEUES),)),
        Permission(
            name="sqs:GetQueueUrl",
            use=Use.QUEUE,
            why="finds a queue by its name",
            grants=(Grant((Who.QUEUE, Who.MACHINE), QUEUES),),
        ),
        Permission(
            name="sqs:GetQueueAttributes",
            use=Use.QUEUE,
            why="sees whether a queue is there, and how much is in it",
            grants=(Grant((Who.QUEUE, Who.MACHINE), QUEUES),),
        ),
        Permission(
            name="sqs:SendMessage",
            use=Use.QUEUE,
            why="inserts tasks",
            grants=(
                Grant((Who.QUEUE,), QUEUES),
                Grant((Who.MACHINE,), QUEUES, why="sends tasks back that are tried again, and reports"),
            ),
            calls=("sqs:SendMessageBatch",),
        ),
        Permission(
            name="sqs:ReceiveMessage",
            use=Use.QUEUE,
            why="takes in what workers report, and looks at tasks",
            grants=(Grant((Who.QUEUE,), QUEUES), Grant((Who.MACHINE,), (TASKS,), why="takes tasks")),
        ),
        Permission(
            name="sqs:DeleteMessage",
            use=Use.QUEUE,
            why="drops what is done with",
            grants=(Grant((Who.QUEUE,), QUEUES), Grant((Who.MACHINE,), (TASKS,))),
            calls=("sqs:DeleteMessageBatch",),
        ),
        Permission(
            name="sqs:ChangeMessageVisibility",
            use=Use.QUEUE,
            why="extends leases and gives tasks back",
            grants=(Grant((Who.QUEUE,), QUEUES), Grant((Who.MACHINE,), (TASKS,))),
            calls=("sqs:ChangeMessageVisibilityBatch",),
        ),
    ]
)
