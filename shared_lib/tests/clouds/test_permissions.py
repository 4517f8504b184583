"""The tables of permissions are what the SDKs really send: no permission is missing there, and none is there that nobody uses.

The stand-ins for the services work out by themselves what each request needs; see ``Double.permissions``.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from types import SimpleNamespace

import boto3
import pytest
from botocore.session import get_session
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1
from taskfleet.clouds.aws_permissions import AWS
from taskfleet.clouds.google_permissions import GOOGLE
from taskfleet.clouds.permissions import Who
from taskfleet.errors import PermissionDeniedError
from taskfleet.ledger.database import create
from taskfleet.machine_terms import Architecture, Market
from taskfleet.machines import LaunchRequest, MachineState
from taskfleet.machines.aws import images as aws_images
from taskfleet.machines.aws import machines as aws_machines
from taskfleet.machines.aws import offers as aws_offers
from taskfleet.machines.aws.machines import AwsMachines
from taskfleet.machines.aws.regions import LaunchSettings as AwsSettings
from taskfleet.machines.choosing import Offer
from taskfleet.machines.gcp import offers as gcp_offers
from taskfleet.machines.gcp.bodies import LaunchSettings as GcpSettings
from taskfleet.machines.gcp.bodies import label_value
from taskfleet.machines.gcp.machines import GcpMachines
from taskfleet.pool import bundle as bundles
from taskfleet.pool import on_machine
from taskfleet.pool.controller import Controller
from taskfleet.pool.job_machines import JobMachines
from taskfleet.pool.planning import Limits
from taskfleet.pool.teardown import ledger_terminator, terminate_all
from taskfleet.references import Store, encode, names_of_files

from shared_lib.tests.machines.conftest import point_at
from shared_lib.tests.queues.test_whole_jobs import Place
from shared_lib.tests.services.ec2 import Ec2
from shared_lib.tests.services.gce import PROJECT, Gce
from shared_lib.tests.services.metadata import Metadata
from shared_lib.tests.services.pubsub import PubSub
from shared_lib.tests.services.sqs import Sqs
from shared_lib.tests.services.storage import Storage

pytestmark = pytest.mark.slow

RUN = "job1-abc12"
TABLES = {"aws": AWS, "gcp": GOOGLE}
#: The names of queues here; those of managers are the one of ``gpu``.
QUEUE = r"taskfleet-test-\d+-\d+"
#: What the stand-ins cannot see, and why.
UNSEEN = {
    (
        "aws",
        Who.POOL,
        "iam:CreateServiceLinkedRole",
    ): "AWS makes the role by itself, at an account's first spot machine",
    ("gcp", Who.POOL, "serviceusage.services.use"): "a person's login is charged for; nobody has one at a stand-in",
}
TASK = """
import os, time

def run_task(n, context):
    time.sleep(2.5)  # longer than a third of its lease, which is extended then
    return n if n > 1 else fail_at_first(n, context)

def double(text):
    return 2 * text

def fail_at_first(n, context):
    time.sleep(2.5)
    mark = os.path.join(os.path.dirname(__file__), f"failed-{context.task_id}")  # the number of its attempt may be any by now
    if not os.path.exists(mark):
        open(mark, "x").close()
        raise ValueError
    return n
"""
RETRIED = {"RETRIES_ON_EXCEPTION": 2, "RETRY_DELAYS": "exception=0"}
#: The driver of a graph with large values.
FLOW = """
import sys
from taskfleet.graph import app, flow
import task

double, fail_at_first = app(task.double), app(task.fail_at_first, manager="gpu")
with flow():
    fail_at_first(1)
    large, other, cancelled = double("x" * 100_000), double("y" * 100_000), double("z")
    if "more" in sys.argv:
        double("w"), fail_at_first(2)
if "result" in sys.argv:
    print(len(large.result() + other.result()))
else:
    print(cancelled.id)
"""


class Job:
    """Tasks that nobody does."""

    def tasks_left(self):
        return 4

    def tasks_runnable(self):
        return 4

    def last_heartbeats(self):
        return {}

    def productive_machines(self):
        return {}


class Cloud:
    """A provider's stand-ins, and what is done there."""

    def __init__(self, name, doubles, tmp_path, monkeypatch):
        self.name, self.doubles = name, doubles
        self.database = create(tmp_path / "job1.db", job_id="job1", project=tmp_path, now=time.time())
        self.said = []
        project = tmp_path / "project"
        project.mkdir()
        (project / "pyproject.toml").touch()
        (project / "uv.lock").touch()
        self.bundle = bundles.pack(project, tmp_path / "bundles")
        for double in doubles:
            for key, value in double.environment().items():
                monkeypatch.setenv(key, value)

    @contextmanager
    def recorded(self):
        """Gives the set of all permissions that are needed meanwhile, and of those on queues with the queues, once that is over."""
        before = [(double.permissions(), double.resources()) for double in self.doubles]
        found = set()
        yield found
        for double, (names, on_queues) in zip(self.doubles, before, strict=True):
            found.update(double.permissions() - names)
            found.update((name, self.in_table(queue)) for name, queue in double.resources() - on_queues)

    def in_table(self, queue):
        """Return a queue of a test's job as the table names it."""
        generic = re.sub(QUEUE, "{queue}", queue).replace("--gpu", self.of_managers)
        return self.place_in_table + generic.replace(f"projects/{PROJECT}", "projects/{project}")

    def controller(self, machines):
        """What keeps a pool of one machine."""
        return Controller(
            self.database,
            machines,
            Job(),
            name=RUN,
            offers=[self.offer],
            limits=Limits(max_machines=1),
            say=self.said.append,
        )

    def order(self, name):
        return LaunchRequest(token=f"{RUN}-{name}", number=1, offers=(self.offer,), lifetime_seconds=3600.0)

    def upload(self):
        return bundles.upload(self.bundle, self.bucket, job_id="job1", provider=self.name)

    def remove(self):
        return {"bundles": bundles.remove(self.bucket, job_id="job1", provider=self.name)}

    def place(self, folder, queue_url, **settings):
        """A project whose queue is at a service."""
        environment = {key: value for double in self.doubles for key, value in double.environment().items()}
        service = SimpleNamespace(queue_url=lambda _: queue_url, environment=lambda: environment)
        return Place(folder, service, "job1", task=TASK, TASKS_PER_PROCESS=1, **settings)


class Amazon(Cloud):
    place_in_table = "arn:aws:sqs:*:{account}:"
    of_managers = "--*"
    bucket = "s3://code/jobs"
    offer = Offer(
        usd_per_slot_hour=0.01,
        cpu_rank=20,
        instance_type="c5.xlarge",
        market=Market.SPOT,
        zone="us-east-1a",
        usd_per_hour=0.04,
        machine_usd_per_hour=0.03,
        slots=4,
        boot_disk_type="gp3",
        boot_disk_gib=20.0,
        cpus=4,
        memory_gib=8.0,
    )

    def __init__(self, doubles, tmp_path, monkeypatch):
        point_at(monkeypatch, doubles[0], tmp_path)
        monkeypatch.setattr(aws_machines, "LAUNCH_PAUSE_SECONDS", 0.01)
        super().__init__("aws", doubles, tmp_path, monkeypatch)
        self.ec2 = doubles[0]
        self.ec2.price("c5.xlarge", "us-east-1a", 0.1)
        self.client = boto3.client("ec2")
        self.s3 = boto3.client("s3")
        self.s3.create_bucket(Bucket="code")

    def machines(self, **more):
        given = {"job_id": "job1", "run": RUN, "regions": ("us-east-1",), "architecture": Architecture.X86_64}
        return AwsMachines(AwsSettings(**given | more), script=lambda _: "#!/bin/sh\n")

    def choose(self):
        aws_offers.regions()
        aws_offers.fetch(["us-west-1"], now=time.time())
        aws_images.fetch_images("us-west-1", now=time.time())

    def with_everything(self):
        """Machines with all that may be set about them."""
        group = self.client.create_security_group(GroupName="group", Description="-")["GroupId"]
        boto3.client("iam").create_instance_profile(InstanceProfileName="role")
        return self.machines(security_groups=[group], instance_profile="role")

    def leave_behind(self):
        """Have something there that outlived its machine."""
        tags = [{"Key": "taskfleet:job", "Value": "job1"}, {"Key": "taskfleet:run", "Value": RUN}]
        subnet = self.client.describe_subnets()["Subnets"][0]["SubnetId"]
        disk = self.client.create_volume(Size=1, AvailabilityZone="us-east-1a")["VolumeId"]
        card = self.client.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
        self.client.create_tags(Resources=[disk, card], Tags=tags)

    def end_behind_our_back(self, instance_id):
        self.client.terminate_instances(InstanceIds=[instance_id])

    def be_refused(self, machines):
        """Have something refused without being told what."""
        self.ec2.deny("ec2:RunInstances", is_terse=True)
        with pytest.raises(PermissionDeniedError) as caught:
            machines.launch(self.order("refused"))
        assert caught.value.permission == "ec2:RunInstances"

    def let_messages_fall(self, queue):
        """Have the messages of a queue be handed out once to somebody who does nothing."""
        client = boto3.client("sqs")
        url = client.get_queue_url(QueueName=queue)["QueueUrl"]
        assert client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)["Messages"]

    def put(self, key, content):
        self.s3.put_object(Bucket="code", Key=key, Body=content)

    def boot(self):
        """Give the name of a machine that runs."""
        return "i-1"

    def on_machine(self, name, stored, path):
        """What a machine does before its worker runs, and after."""
        with Metadata(name) as metadata:
            environment = metadata.environment() | {"AWS_ENDPOINT_URL": self.ec2.environment()["AWS_ENDPOINT_URL"]}
            run_on_machine(environment, "fetch", stored.address, stored.hash, path, "us-east-1")


class Google(Cloud):
    place_in_table = ""
    of_managers = "--{manager}"
    bucket = "gs://code/jobs"
    offer = Offer(
        usd_per_slot_hour=0.01,
        cpu_rank=21,
        instance_type="n2-standard-8",
        market=Market.SPOT,
        zone="us-central1-a",
        usd_per_hour=0.08,
        machine_usd_per_hour=0.07,
        slots=8,
        boot_disk_type="pd-balanced",
        boot_disk_gib=20.5,
        cpus=8,
        memory_gib=32.0,
    )

    def __init__(self, doubles, tmp_path, monkeypatch):
        super().__init__("gcp", doubles, tmp_path, monkeypatch)
        self.gce, self.storage = doubles[0], doubles[1]
        self.gce.set(operation_seconds=0.2)

    def machines(self, **more):
        given = {"project": PROJECT, "job_id": "job1", "run": RUN, "regions": ("us-central1",)}
        return GcpMachines(GcpSettings(**given | more), script=lambda _: "#!/bin/sh\n", patience_seconds=0.3)

    def choose(self):
        gcp_offers.regions(PROJECT)
        gcp_offers.fetch(PROJECT, ["us-central1"], now=time.time())
        gcp_offers.images()

    def with_everything(self):
        account = "worker@test-project.iam.gserviceaccount.com"
        for more in ({"network": "mine"}, {"subnetwork": "inner"}):  # what it looks at beforehand
            assert self.machines(**more).preflight() == []
        return self.machines(image="my-image-2", service_account=account)

    def leave_behind(self):
        labels = {"taskfleet-job": label_value("job1"), "taskfleet-run": RUN}
        body = json.dumps({"name": "left", "sizeGb": "10", "labels": labels}).encode()
        address = f"{self.gce.endpoint}/compute/v1/projects/{PROJECT}/zones/us-central1-a/disks"
        urllib.request.urlopen(urllib.request.Request(address, body, method="POST"), timeout=30).close()

    def end_behind_our_back(self, instance_id):
        options = {"api_endpoint": self.gce.endpoint}
        with compute_v1.InstancesClient(credentials=AnonymousCredentials(), client_options=options) as client:
            client.delete_unary(project=PROJECT, zone="us-central1-a", instance=instance_id)

    def be_refused(self, machines):
        """Have a name be taken, which is looked at."""
        body = {"name": f"{RUN}-taken-1", "machineType": "zones/us-central1-a/machineTypes/e2-micro", "labels": {}}
        disk = {
            "sourceImage": "projects/debian-cloud/global/images/debian-13-trixie-v20261010",
            "diskType": "zones/us-central1-a/diskTypes/pd-standard",
            "diskSizeGb": "10",
        }
        body |= {"disks": [{"initializeParams": disk}], "networkInterfaces": [{"network": "global/networks/default"}]}
        address = f"{self.gce.endpoint}/compute/v1/projects/{PROJECT}/zones/us-central1-a/instances"
        request = urllib.request.Request(address, json.dumps(body | {"scheduling": {}}).encode(), method="POST")
        urllib.request.urlopen(request, timeout=30).close()
        assert machines.launch(self.order("taken")).failures

    def let_messages_fall(self, queue):
        """It makes no difference to what is needed."""

    def put(self, key, content):
        address = f"{self.storage.endpoint}/upload/storage/v1/b/code/o?uploadType=media&name={key}"
        urllib.request.urlopen(urllib.request.Request(address, content), timeout=30).close()

    def boot(self):
        [one] = self.machines().launch(self.order("m")).launched
        return one.instance_id

    def on_machine(self, name, stored, path):
        with Metadata(name, region="us-central1", project=PROJECT) as metadata:
            environment = metadata.environment() | self.storage.environment() | self.gce.environment()
            run_on_machine(environment, "fetch", stored.address, stored.hash, path, "")
            run_on_machine(environment, "delete")


def run_on_machine(environment, *words):
    subprocess.run(
        [sys.executable, "-I", on_machine.__file__, *map(str, words)],
        env={"PATH": os.environ["PATH"], **environment},
        check=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def doubles():
    """All stand-ins of a provider, each started when it is first wanted."""
    kinds = {"aws": (Ec2, Sqs), "gcp": (Gce, Storage, PubSub)}
    running = {}

    def start(name):
        if name not in running:
            running[name] = [kind() for kind in kinds[name]]
            for double in running[name]:
                double.start()
        return running[name]

    yield start
    for double in [one for those in running.values() for one in those]:
        double.stop()


@pytest.fixture(params=["aws", "gcp"])
def cloud(request, doubles, tmp_path, monkeypatch):
    kind = {"aws": Amazon, "gcp": Google}[request.param]
    found = kind(doubles(request.param), tmp_path, monkeypatch)
    yield found
    found.database.close()
    found.ec2.empty() if request.param == "aws" else found.gce.reset()


def wanted(cloud, who):
    """What the table says that somebody needs, and on which queues, but for what cannot be seen."""
    rows = [row for row in TABLES[cloud.name].of(who=who) if (cloud.name, who, row.name) not in UNSEEN]
    of_queues = [row for row in rows if row.name.startswith(("sqs", "pubsub"))]
    grants = [(row.name, grant) for row in of_queues for grant in row.grants if who in grant.who]
    return {row.name for row in rows} | {(name, queue) for name, grant in grants for queue in grant.on}


NONE = {"missing in the table": set(), "never needed": set()}


def differences(found, in_table):
    return {"missing in the table": found - in_table, "never needed": in_table - found}


def step_to_a_machine(cloud, machines):
    """Have the pool's controller start its first machine; give its name."""
    cloud.controller(machines).step(time.time())
    [one] = [one for one in machines.list() if one.state is MachineState.RUNNING]
    return one.instance_id


def test_who_runs_a_pool_needs_what_the_table_says(cloud):
    with cloud.recorded() as found:
        cloud.choose()
        cloud.upload()
        machines = cloud.with_everything()
        first = step_to_a_machine(cloud, machines)
        machines.console(first)
        cloud.leave_behind()
        machines.terminate([first])
        machines.clear()
        cloud.remove()
        cloud.be_refused(machines)
    assert differences(found, wanted(cloud, Who.POOL)) == NONE


def test_who_only_ends_and_clears_needs_what_the_table_says(cloud):
    cloud.upload()
    first = step_to_a_machine(cloud, cloud.machines())
    cloud.machines().launch(cloud.order("unknown"))  # it is in no ledger
    cloud.end_behind_our_back(first)  # what it has printed is shown
    cloud.leave_behind()
    with cloud.recorded() as found:
        machines = JobMachines({0: cloud.machines()})
        end = ledger_terminator(machines, cloud.database, "torn down", cloud.said.append)
        left = terminate_all(machines, end, cloud.said.append, clear=cloud.remove, pause=lambda _: None)
    assert not any(left.values())
    assert differences(found, wanted(cloud, Who.TEARDOWN)) == NONE


def test_who_only_looks_needs_what_the_table_says(cloud):
    step_to_a_machine(cloud, cloud.machines())
    with cloud.recorded() as found:
        machines = cloud.machines()
        [one] = [one for one in machines.list() if one.state is MachineState.RUNNING]
        machines.console(one.instance_id)
    assert differences(found, wanted(cloud, Who.WATCHER)) == NONE


def queue_url(cloud):
    """The name and the address of a queue that there is not yet."""
    name = f"taskfleet-test-{os.getpid()}-{time.time_ns() % 10**9}"
    assert re.fullmatch(QUEUE, name)
    return name, f"sqs://{name}" if cloud.name == "aws" else f"pubsub://{PROJECT}/{name}"


def do_a_table(cloud, folder):
    """Have a table that is in a bucket done; give what the user's commands need and what a machine needs."""
    name, url = queue_url(cloud)
    cloud.put("jobs/tasks.csv", b"n\n1\n2\n3\n")
    stored = cloud.upload()
    home = cloud.place(folder, url, TASK_TABLE=f"{cloud.bucket}/tasks.csv", IDLE_SECONDS=2, **RETRIED)
    with cloud.recorded() as by_user:
        home.run("insert_tasks")
        cloud.let_messages_fall(name)
        home.run("show_queue")
        home.run("pause")
        home.run("resume")
    machine = cloud.boot()
    with cloud.recorded() as by_machine:
        cloud.on_machine(machine, stored, folder / "bundle")
        assert "3 tasks done here" in home.run("launch_worker", "--slots", "1")
    with cloud.recorded() as by_user_later:
        home.run("monitor")
        home.run("retry", "--failed")
        home.run("purge_queue", "--yes", "--events")
        home.run("delete_queue", "--yes")
    return by_user | by_user_later, by_machine


def do_a_graph(cloud, folder):
    """Have a graph with large values and a manager done, which is paused and of which a task is cancelled; as ``do_a_table``."""
    home = cloud.place(folder, queue_url(cloud)[1], BUCKET=cloud.bucket, **RETRIED)
    (folder / "config" / "task.gpu.env").touch()
    (folder / "flow.py").write_text(FLOW)
    [name] = names_of_files(encode("x" * 200_000, Store(f"{cloud.bucket}/job1/results")))
    cloud.put(f"jobs/job1/results/{name}", b"what is left of the result of a worker that died")
    with cloud.recorded() as by_user:
        cancelled = home.run_script("flow.py").split()[-1]
        home.run("cancel", cancelled)
        home.run("show_queue")
        home.run("pause")
    with cloud.recorded() as by_machine:
        assert "The job is paused" in home.run("launch_worker", "--slots", "1")
    with cloud.recorded() as by_user_later:
        home.run("resume")
    with cloud.recorded() as by_machine_later:
        assert "2 tasks done here" in home.run("launch_worker", "--slots", "1", "--max-tasks", "2")
        assert "1 task done here" in home.run("launch_worker", "--slots", "1", "--manager", "gpu")
    with cloud.recorded() as by_user_at_last:
        assert home.run_script("flow.py", "result").split()[-1] == "400000"
        home.run_script("flow.py", "more")
        home.run("purge_queue", "--yes")
        home.run("delete_queue", "--yes")
    return by_user | by_user_later | by_user_at_last, by_machine | by_machine_later


def test_who_fills_a_queue_and_who_works_on_it_need_what_the_table_says(cloud, tmp_path):
    of_table, of_graph = do_a_table(cloud, tmp_path / "table"), do_a_graph(cloud, tmp_path / "graph")
    for index, who in enumerate((Who.QUEUE, Who.MACHINE)):
        assert differences(of_table[index] | of_graph[index], wanted(cloud, who)) == NONE


def test_every_name_of_aws_is_one_of_its_calls():
    session = get_session()
    not_calls = {"s3:ListBucket", "iam:PassRole"}
    for row in AWS.rows:
        service, action = row.name.split(":")
        calls = session.get_service_model(service).operation_names
        assert (row.name in not_calls) != (action in calls)
        for call in row.calls:
            service, operation = call.split(":")
            assert operation in session.get_service_model(service).operation_names


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_the_tables_are_whole(table):
    assert len({row.name for row in table.rows}) == len(table.rows)
    assert len({call for row in table.rows for call in row.calls}) == sum(len(row.calls) for row in table.rows)
    for row in table.rows:
        assert row.purpose
        assert row.grants
        assert bool(row.role) is (table is GOOGLE)
        assert table.of_call(row.name) is table[row.name] is row
    for key, _, name in UNSEEN:
        assert name in TABLES[key]
