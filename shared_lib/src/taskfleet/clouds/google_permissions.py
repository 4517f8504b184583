"""The permissions at Google Cloud that this library uses: by whom, on which resources, for what. See ``permissions``.

The names are those of https://cloud.google.com/iam/docs/permissions-reference. The reference of each method lists what it needs, such as
https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert.
"""

from typing import Final

from taskfleet.clouds.google_bucket_permissions import BUCKETS
from taskfleet.clouds.permissions import (
    LISTERS,
    POOL,
    TELLS_WORKERS,
    TERMINATORS,
    Condition,
    Grant,
    Permission,
    Permissions,
    Use,
    Who,
)

PROJECT: Final = "projects/{project}"
IMAGE_PROJECT: Final = "projects/{image_project}"
#: In the project of the network, which can be another one.
SUBNETWORK: Final = "projects/{network_project}/regions/{region}/subnetworks/{subnetwork}"
SERVICE_ACCOUNT: Final = "projects/{project}/serviceAccounts/{service_account}"
TASK_TOPICS: Final = ("projects/{project}/topics/{queue}", "projects/{project}/topics/{queue}--{manager}")
TOPICS: Final = (*TASK_TOPICS, "projects/{project}/topics/{queue}-events")
DEAD_TOPICS: Final = tuple(f"{one}-dead" for one in TOPICS)
TASKS: Final = ("projects/{project}/subscriptions/{queue}", "projects/{project}/subscriptions/{queue}--{manager}")
SUBSCRIPTIONS: Final = (*TASKS, "projects/{project}/subscriptions/{queue}-events")

ITSELF: Final = Condition(
    "the machine's name begins with the job's name",
    (("", "", "resource.name.extract('/instances/{name}').startsWith('{job}')"),),
)

_ADMIN: Final = "Compute Instance Admin (v1)"
_VIEWER: Final = "Compute Viewer"
_EDITOR: Final = "Pub/Sub Editor"
_PUBLISHER: Final = "Pub/Sub Publisher"
_SUBSCRIBER: Final = "Pub/Sub Subscriber"


def _in_project(name: str, use: Use, purpose: str, who: tuple[Who, ...] = POOL, role: str = _ADMIN) -> Permission:
    return Permission(name=name, use=use, purpose=purpose, grants=(Grant(who, (PROJECT,)),), role=role)


GOOGLE: Final = Permissions(
    [
        _in_project("compute.zones.list", Use.CHOOSE, "lists regions and zones", role=_VIEWER),
        _in_project("compute.machineTypes.list", Use.CHOOSE, "reads the sizes of machine types", role=_VIEWER),
        Permission(
            name="compute.images.get",
            use=Use.CHOOSE,
            purpose="finds the configured image; those of Ubuntu and Debian are public",
            grants=(Grant(POOL, (IMAGE_PROJECT,), only_if="IMAGE is one of yours"),),
            role=_VIEWER,
        ),
        Permission(
            name="compute.images.getFromFamily",
            use=Use.CHOOSE,
            purpose="finds the latest image of a family; those of Ubuntu and Debian are public",
            grants=(Grant(POOL, (IMAGE_PROJECT,), only_if="IMAGE is one of yours"),),
            role=_VIEWER,
        ),
        Permission(
            name="compute.networks.get",
            use=Use.CHOOSE,
            purpose="checks that the network exists; not needed to launch machines",
            grants=(Grant(POOL, (PROJECT,)),),
            role=_VIEWER,
        ),
        Permission(
            name="compute.subnetworks.get",
            use=Use.CHOOSE,
            purpose="checks that the subnetwork exists; not needed to launch machines",
            grants=(Grant(POOL, (PROJECT,), only_if="SUBNETWORK is set"),),
            role=_VIEWER,
        ),
        Permission(
            name="serviceusage.services.use",
            use=Use.CHOOSE,
            purpose="uses the project as quota project for price and permission requests, at no cost",
            grants=(Grant(POOL, (PROJECT,), only_if="the login is a user account"),),
            role="Service Usage Consumer",
        ),
        _in_project("compute.instances.create", Use.START, "launches machines"),
        _in_project("compute.instances.setLabels", Use.START, "labels them with the job"),
        _in_project("compute.instances.setMetadata", Use.START, "sets their start-up script"),
        _in_project("compute.instances.setServiceAccount", Use.START, "sets their service account"),
        _in_project("compute.instances.setTags", Use.START, "sets a network tag for firewall rules"),
        _in_project("compute.disks.create", Use.START, "creates their boot disks"),
        _in_project("compute.disks.setLabels", Use.START, "labels these with the job"),
        _in_project("compute.zoneOperations.get", Use.START, "waits until they have started", role=_VIEWER),
        Permission(
            name="compute.instances.get",
            use=Use.START,
            purpose="identifies the machine that has a name already",
            grants=(Grant(POOL, (PROJECT,)),),
            role=_VIEWER,
        ),
        Permission(
            name="compute.images.useReadOnly",
            use=Use.START,
            purpose="boots from an image; those of Ubuntu and Debian are public",
            grants=(Grant(POOL, (IMAGE_PROJECT,), only_if="IMAGE is one of yours"),),
            role="Compute Image User",
        ),
        Permission(
            name="compute.subnetworks.use",
            use=Use.START,
            purpose="connects machines to the network",
            grants=(Grant(POOL, (SUBNETWORK,)),),
            role="Compute Network User",
        ),
        Permission(
            name="compute.subnetworks.useExternalIp",
            use=Use.START,
            purpose="assigns them public addresses",
            grants=(Grant(POOL, (SUBNETWORK,), only_if="EXTERNAL_IP is true"),),
            role="Compute Network User",
        ),
        Permission(
            name="iam.serviceAccounts.actAs",
            use=Use.START,
            purpose="lets them act as their service account; grant it on that account only, not on the project",
            grants=(Grant(POOL, (SERVICE_ACCOUNT,)),),
            role="Service Account User",
        ),
        _in_project("compute.instances.list", Use.LOOK, "lists the machines", LISTERS, role=_VIEWER),
        _in_project(
            "compute.globalOperations.list",
            Use.LOOK,
            "reads which machines were preempted or deleted, and the reason",
            LISTERS,
            role=_VIEWER,
        ),
        _in_project(
            "compute.instances.getSerialPortOutput",
            Use.LOOK,
            "reads console output",
            (Who.POOL, Who.WATCHER),
            role=_VIEWER,
        ),
        Permission(
            name="compute.instances.delete",
            use=Use.END,
            purpose="terminates machines",
            grants=(
                Grant(TERMINATORS, (PROJECT,)),
                Grant(
                    (Who.MACHINE,),
                    (PROJECT,),
                    ITSELF,
                    purpose="deletes the machine itself, with its disk, when its work is done",
                ),
            ),
            role=_ADMIN,
        ),
        _in_project(
            "compute.disks.list",
            Use.CLEAR,
            "finds disks that remained after their machines",
            TERMINATORS,
            role=_VIEWER,
        ),
        _in_project("compute.disks.delete", Use.CLEAR, "removes them", TERMINATORS),
        *BUCKETS,
        Permission(
            name="pubsub.topics.create",
            use=Use.QUEUE,
            purpose="creates the queues of a job",
            grants=(Grant((Who.QUEUE,), (PROJECT,)),),
            calls=("Publisher/CreateTopic",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.topics.get",
            use=Use.QUEUE,
            purpose="checks whether a queue exists; reads the control document in its labels",
            grants=(Grant((Who.QUEUE,), TOPICS), Grant((Who.MACHINE,), TOPICS, role="Pub/Sub Viewer")),
            calls=("Publisher/GetTopic",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.topics.update",
            use=Use.QUEUE,
            purpose=TELLS_WORKERS,
            grants=(Grant((Who.QUEUE,), TOPICS[:1], only_if="BUCKET is not set"),),
            calls=("Publisher/UpdateTopic",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.topics.delete",
            use=Use.QUEUE,
            purpose="deletes them",
            grants=(Grant((Who.QUEUE,), (*TOPICS, *DEAD_TOPICS)),),
            calls=("Publisher/DeleteTopic",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.topics.publish",
            use=Use.QUEUE,
            purpose="inserts tasks",
            grants=(
                Grant((Who.QUEUE,), TASK_TOPICS),
                Grant((Who.MACHINE,), TOPICS, purpose="sends tasks for another attempt, and events", role=_PUBLISHER),
                Grant(
                    (Who.PROVIDER,),
                    DEAD_TOPICS,
                    purpose="Pub/Sub moves messages to the dead-letter topic after 100 deliveries",
                    role=_PUBLISHER,
                ),
            ),
            calls=("Publisher/Publish",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.subscriptions.create",
            use=Use.QUEUE,
            purpose="creates the queues of a job",
            grants=(Grant((Who.QUEUE,), (PROJECT,)),),
            calls=("Subscriber/CreateSubscription",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.topics.attachSubscription",
            use=Use.QUEUE,
            purpose="creates the queues of a job",
            grants=(Grant((Who.QUEUE,), TOPICS),),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.subscriptions.get",
            use=Use.QUEUE,
            purpose="checks whether a queue exists",
            grants=(Grant((Who.QUEUE,), SUBSCRIPTIONS), Grant((Who.MACHINE,), SUBSCRIPTIONS, role="Pub/Sub Viewer")),
            calls=("Subscriber/GetSubscription",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.subscriptions.delete",
            use=Use.QUEUE,
            purpose="deletes them",
            grants=(Grant((Who.QUEUE,), SUBSCRIPTIONS),),
            calls=("Subscriber/DeleteSubscription",),
            role=_EDITOR,
        ),
        Permission(
            name="pubsub.subscriptions.consume",
            use=Use.QUEUE,
            purpose="receives events, samples tasks, empties a queue",
            grants=(
                Grant((Who.QUEUE,), SUBSCRIPTIONS),
                Grant(
                    (Who.MACHINE,),
                    TASKS,
                    purpose="receives tasks, extends leases, returns tasks, deletes processed messages",
                    role=_SUBSCRIBER,
                ),
                Grant(
                    (Who.PROVIDER,),
                    SUBSCRIPTIONS,
                    purpose="Pub/Sub moves messages to the dead-letter topic after 100 deliveries",
                    role=_SUBSCRIBER,
                ),
            ),
            calls=("Subscriber/Pull", "Subscriber/Acknowledge", "Subscriber/ModifyAckDeadline", "Subscriber/Seek"),
            role=_EDITOR,
        ),
    ]
)
