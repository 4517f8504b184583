"""Which permissions of Google Cloud are used, by whom, on what and why. See ``permissions``.

The names are those of https://cloud.google.com/iam/docs/permissions-reference, and which method needs which stands at each method, such as
https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert.
"""

from typing import Final

from taskfleet.clouds.permissions import Condition, Grant, Permission, Permissions, Use, Who

PROJECT: Final = "projects/{project}"
IMAGE_PROJECT: Final = "projects/{image_project}"
#: In the project of the network, which may be another one.
SUBNETWORK: Final = "projects/{network_project}/regions/{region}/subnetworks/{subnetwork}"
SERVICE_ACCOUNT: Final = "projects/{project}/serviceAccounts/{service_account}"
BUCKET: Final = "projects/_/buckets/{bucket}"
TABLE_BUCKET: Final = "projects/_/buckets/{table_bucket}"
TOPICS: Final = ("projects/{project}/topics/{queue}", "projects/{project}/topics/{queue}-events")
DEAD_TOPICS: Final = tuple(f"{one}-dead" for one in TOPICS)
TASKS: Final = "projects/{project}/subscriptions/{queue}"
SUBSCRIPTIONS: Final = (TASKS, "projects/{project}/subscriptions/{queue}-events")

BUNDLES: Final = Condition(
    "it is a bundle (which needs uniform access to the bucket)",
    (("", "", 'resource.name.startsWith("projects/_/buckets/{bucket}/objects/{folder}taskfleet-bundles/")'),),
)
ITSELF: Final = Condition(
    "the machine's name begins with the job's",
    (("", "", "resource.name.extract('/instances/{name}').startsWith('{job}')"),),
)

_ADMIN: Final = "Compute Instance Admin (v1)"
_VIEWER: Final = "Compute Viewer"
_OBJECTS: Final = "Storage Object User"
_EDITOR: Final = "Pub/Sub Editor"
_PUBLISHER: Final = "Pub/Sub Publisher"
_SUBSCRIBER: Final = "Pub/Sub Subscriber"
_POOL: Final = (Who.POOL,)
_ENDERS: Final = (Who.POOL, Who.TEARDOWN)
_LOOKERS: Final = (Who.POOL, Who.TEARDOWN, Who.WATCHER)


def _in_project(name: str, use: Use, why: str, who: tuple[Who, ...] = _POOL, role: str = _ADMIN) -> Permission:
    return Permission(name=name, use=use, why=why, grants=(Grant(who, (PROJECT,)),), role=role)


GOOGLE: Final = Permissions(
    [
        _in_project("compute.zones.list", Use.CHOOSE, "lists regions and zones", role=_VIEWER),
        _in_project("compute.machineTypes.list", Use.CHOOSE, "tells the sizes of machines", role=_VIEWER),
        Permission(
            name="compute.images.get",
            use=Use.CHOOSE,
            why="finds the image that is set; everybody may see those of Ubuntu and Debian",
            grants=(Grant(_POOL, (IMAGE_PROJECT,), only_if="IMAGE is one of yours"),),
            role=_VIEWER,
        ),
        Permission(
            name="compute.images.getFromFamily",
            use=Use.CHOOSE,
            why="finds the newest image of a family; everybody may see those of Ubuntu and Debian",
            grants=(Grant(_POOL, (IMAGE_PROJECT,), only_if="IMAGE is one of yours"),),
            role=_VIEWER,
        ),
        Permission(
            name="compute.networks.get",
            use=Use.CHOOSE,
            why="sees beforehand that the network is there; machines start without it",
            grants=(Grant(_POOL, (PROJECT,)),),
            role=_VIEWER,
        ),
        Permission(
            name="compute.subnetworks.get",
            use=Use.CHOOSE,
            why="sees beforehand that the subnetwork is there; machines start without it",
            grants=(Grant(_POOL, (PROJECT,), only_if="SUBNETWORK is set"),),
            role=_VIEWER,
        ),
        Permission(
            name="serviceusage.services.use",
            use=Use.CHOOSE,
            why="has prices and the check of permissions charged to the project, at no cost",
            grants=(Grant(_POOL, (PROJECT,), only_if="the login is a person's"),),
            role="Service Usage Consumer",
        ),
        _in_project("compute.instances.create", Use.START, "starts machines"),
        _in_project("compute.instances.setLabels", Use.START, "marks them as the job's"),
        _in_project("compute.instances.setMetadata", Use.START, "gives them their start-up script"),
        _in_project("compute.instances.setServiceAccount", Use.START, "gives them their service account"),
        _in_project("compute.instances.setTags", Use.START, "gives them a tag for firewall rules"),
        _in_project("compute.disks.create", Use.START, "makes their boot disks"),
        _in_project("compute.disks.setLabels", Use.START, "marks these as the job's"),
        _in_project("compute.zoneOperations.get", Use.START, "waits until they are started", role=_VIEWER),
        Permission(
            name="compute.instances.get",
            use=Use.START,
            why="sees whose a machine is whose name is taken",
            grants=(Grant(_POOL, (PROJECT,)),),
            role=_VIEWER,
        ),
        Permission(
            name="compute.images.useReadOnly",
            use=Use.START,
            why="boots from an image; everybody may from those of Ubuntu and Debian",
            grants=(Grant(_POOL, (IMAGE_PROJECT,), only_if="IMAGE is one of yours"),),
            role="Compute Image User",
        ),
        Permission(
            name="compute.subnetworks.use",
            use=Use.START,
            why="connects machines to the network",
            grants=(Grant(_POOL, (SUBNETWORK,)),),
            role="Compute Network User",
        ),
        Permission(
            name="compute.subnetworks.useExternalIp",
            use=Use.START,
            why="gives them a public address",
            grants=(Grant(_POOL, (SUBNETWORK,), only_if="EXTERNAL_IP is true"),),
            role="Compute Network User",
        ),
        Permission(
            name="iam.serviceAccounts.actAs",
            use=Use.START,
            why="lets them act as their service account; to be granted on that account alone, not on the project",
            grants=(Grant(_POOL, (SERVICE_ACCOUNT,)),),
            role="Service Account User",
        ),
        _in_project("compute.instances.list", Use.LOOK, "lists the machines", _LOOKERS, role=_VIEWER),
        _in_project(
            "compute.globalOperations.list",
            Use.LOOK,
            "tells which were preempted or deleted, and why",
            _LOOKERS,
            role=_VIEWER,
        ),
        _in_project(
            "compute.instances.getSerialPortOutput",
            Use.LOOK,
            "shows what a machine printed",
            (Who.POOL, Who.WATCHER),
            role=_VIEWER,
        ),
        Permission(
            name="compute.instances.delete",
            use=Use.END,
            why="ends machines",
            grants=(
                Grant(_ENDERS, (PROJECT,)),
                Grant(
                    (Who.MACHINE,),
                    (PROJECT,),
                    ITSELF,
                    why="a machine deletes itself, with its disk, when its work is done",
                ),
            ),
            role=_ADMIN,
        ),
        _in_project("compute.disks.list", Use.CLEAR, "finds disks that outlived their machines", _ENDERS, role=_VIEWER),
        _in_project("compute.disks.delete", Use.CLEAR, "removes them", _ENDERS),
        Permission(
            name="storage.objects.create",
            use=Use.CODE,
            why="puts a bundle of the project's code into the bucket",
            grants=(Grant(_POOL, (BUCKET,)),),
            role=_OBJECTS,
        ),
        Permission(
            name="storage.objects.get",
            use=Use.CODE,
            why="sees whether a bundle is there",
            grants=(
                Grant(_POOL, (BUCKET,)),
                Grant((Who.MACHINE,), (BUCKET,), BUNDLES, why="gets the project's code", role="Storage Object Viewer"),
                Grant(
                    (Who.QUEUE,),
                    (TABLE_BUCKET,),
                    only_if="TASK_TABLE is in Cloud Storage",
                    why="reads the table",
                    role="Storage Object Viewer",
                ),
            ),
            role=_OBJECTS,
        ),
        Permission(
            name="storage.objects.delete",
            use=Use.CODE,
            why="removes the job's bundles",
            grants=(Grant(_ENDERS, (BUCKET,)),),
            role=_OBJECTS,
        ),
        Permission(
            name="storage.objects.list",
            use=Use.CODE,
            why="finds the job's bundles",
            grants=(Grant(_ENDERS, (BUCKET,)),),
            role=_OBJECTS,
        ),
        Permission(
            name="pubsub.topics.create",
            use=Use.QUEUE,
            why="makes the queues of a job",
            grants=(Grant((Who.QUEUE,), (PROJECT,)),),
            calls=("Publisher/CreateTopic",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.topics.get",
            use=Use.QUEUE,
            why="sees whether a queue is there",
            grants=(Grant((Who.QUEUE,), TOPICS), Grant((Who.MACHINE,), TOPICS, role="Pub/Sub Viewer")),
            calls=("Publisher/GetTopic",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.topics.delete",
            use=Use.QUEUE,
            why="deletes them",
            grants=(Grant((Who.QUEUE,), (*TOPICS, *DEAD_TOPICS)),),
            calls=("Publisher/DeleteTopic",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.topics.publish",
            use=Use.QUEUE,
            why="inserts tasks",
            grants=(
                Grant((Who.QUEUE,), TOPICS),
                Grant(
                    (Who.MACHINE,), TOPICS, why="sends tasks back that are tried again, and reports", role=_PUBLISHER
                ),
                Grant(
                    (Who.PROVIDER,),
                    DEAD_TOPICS,
                    why="Pub/Sub puts aside what was handed out a hundred times",
                    role=_PUBLISHER,
                ),
            ),
            calls=("Publisher/Publish",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.subscriptions.create",
            use=Use.QUEUE,
            why="makes the queues of a job",
            grants=(Grant((Who.QUEUE,), (PROJECT,)),),
            calls=("Subscriber/CreateSubscription",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.topics.attachSubscription",
            use=Use.QUEUE,
            why="makes the queues of a job",
            grants=(Grant((Who.QUEUE,), TOPICS),),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.subscriptions.get",
            use=Use.QUEUE,
            why="sees whether a queue is there",
            grants=(Grant((Who.QUEUE,), SUBSCRIPTIONS), Grant((Who.MACHINE,), SUBSCRIPTIONS, role="Pub/Sub Viewer")),
            calls=("Subscriber/GetSubscription",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.subscriptions.delete",
            use=Use.QUEUE,
            why="deletes them",
            grants=(Grant((Who.QUEUE,), SUBSCRIPTIONS),),
            calls=("Subscriber/DeleteSubscription",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.subscriptions.consume",
            use=Use.QUEUE,
            why="takes in what workers report, looks at tasks, empties a queue",
            grants=(
                Grant((Who.QUEUE,), SUBSCRIPTIONS),
                Grant(
                    (Who.MACHINE,),
                    (TASKS,),
                    why="takes tasks, extends leases, gives tasks back, drops what is done with",
                    role=_SUBSCRIBER,
                ),
                Grant(
                    (Who.PROVIDER,),
                    SUBSCRIPTIONS,
                    why="Pub/Sub puts aside what was handed out a hundred times",
                    role=_SUBSCRIBER,
                ),
            ),
            calls=("Subscriber/Pull", "Subscriber/Acknowledge", "Subscriber/ModifyAckDeadline", "Subscriber/Seek"),
            role=_EDITOR,
        ),
    ]
)
