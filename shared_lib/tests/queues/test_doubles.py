"""The stand-ins for SQS and Pub/Sub keep to the published limits and manners, as the real clients see them.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html, https://cloud.google.com/pubsub/quotas
"""

import subprocess
import sys
import time

import boto3
import grpc
import pytest
from botocore.exceptions import ClientError
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, NotFound
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from shared_lib.tests.services.pubsub import PubSub
from shared_lib.tests.services.sqs import Sqs


@pytest.fixture(scope="module")
def sqs():
    with Sqs() as service:
        yield service


@pytest.fixture
def client(sqs):
    values = sqs.environment()
    client = boto3.client(
        "sqs",
        endpoint_url=values["AWS_ENDPOINT_URL_SQS"],
        region_name=values["AWS_REGION"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    yield client
    sqs.clear_faults()
    client.close()


@pytest.fixture
def queue(client, name):
    url = client.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "30"})["QueueUrl"]
    yield url
    client.delete_queue(QueueUrl=url)


def code(caught):
    return caught.value.response["Error"]["Code"].rpartition(".")[2]


def entries(bodies):
    return [{"Id": str(n), "MessageBody": body} for n, body in enumerate(bodies)]


def receive(client, queue, **options):
    return client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, AttributeNames=["All"], **options).get(
        "Messages", []
    )


def test_sqs_counts_bytes_and_entries_of_a_batch(client, queue):
    client.send_message_batch(QueueUrl=queue, Entries=entries(["x" * 100_000] * 10))
    with pytest.raises(ClientError) as caught:
        client.send_message_batch(QueueUrl=queue, Entries=entries(["é" * 60_000] * 10))
    assert code(caught) == "BatchRequestTooLong"
    with pytest.raises(ClientError) as caught:
        client.send_message_batch(QueueUrl=queue, Entries=entries(["x"] * 11))
    assert code(caught) == "TooManyEntriesInBatchRequest"
    with pytest.raises(ClientError) as caught:
        client.send_message_batch(QueueUrl=queue, Entries=entries(["\x00"]))
    assert code(caught) == "InvalidMessageContents"
    client.send_message(QueueUrl=queue, MessageBody="x" * (1 << 20))
    with pytest.raises(ClientError):
        client.send_message(QueueUrl=queue, MessageBody="x" * ((1 << 20) + 1))
    with pytest.raises(ClientError):
        client.send_message(QueueUrl=queue, MessageBody="x", DelaySeconds=901)


def test_sqs_delivers_ten_at_most_and_again_after_the_timeout(client, queue, sqs):
    client.send_message_batch(QueueUrl=queue, Entries=entries("abcdefghij"))
    client.send_message_batch(QueueUrl=queue, Entries=entries("klmno"))
    first = receive(client, queue)
    assert len(first) == 10
    assert len(receive(client, queue)) == 5
    assert receive(client, queue) == []
    sqs.advance(31)
    again = receive(client, queue)
    assert {message["Attributes"]["ApproximateReceiveCount"] for message in again} == {"2"}
    with pytest.raises(ClientError):
        client.receive_message(QueueUrl=queue, MaxNumberOfMessages=11)


def test_sqs_receipts_of_an_earlier_delivery_have_no_effect(client, queue, sqs):
    client.send_message(QueueUrl=queue, MessageBody="a")
    [old] = receive(client, queue)
    sqs.advance(31)
    [new] = receive(client, queue)
    client.delete_message(QueueUrl=queue, ReceiptHandle=old["ReceiptHandle"])
    with pytest.raises(ClientError) as caught:
        client.change_message_visibility(QueueUrl=queue, ReceiptHandle=old["ReceiptHandle"], VisibilityTimeout=0)
    assert code(caught) == "InvalidParameterValue"
    client.change_message_visibility(QueueUrl=queue, ReceiptHandle=new["ReceiptHandle"], VisibilityTimeout=0)
    [third] = receive(client, queue)
    client.delete_message(QueueUrl=queue, ReceiptHandle=third["ReceiptHandle"])
    sqs.advance(31)
    assert receive(client, queue) == []


def test_sqs_limits_the_lease_of_a_message_to_twelve_hours(client, queue, sqs):
    client.send_message(QueueUrl=queue, MessageBody="a")
    [message] = receive(client, queue, VisibilityTimeout=43_000)
    sqs.advance(40_000)
    with pytest.raises(ClientError) as caught:
        client.change_message_visibility(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=4000)
    assert code(caught) == "InvalidParameterValue"
    client.change_message_visibility(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=3000)


def test_sqs_keeps_a_deleted_queues_name_for_a_minute(client, sqs, name):
    client.delete_queue(QueueUrl=client.create_queue(QueueName=name)["QueueUrl"])
    with pytest.raises(ClientError) as caught:
        client.create_queue(QueueName=name)
    assert code(caught) == "QueueDeletedRecently"
    sqs.advance(61)
    client.delete_queue(QueueUrl=client.create_queue(QueueName=name)["QueueUrl"])


def test_sqs_keeps_no_order_and_may_deliver_a_message_twice(client, queue, sqs):
    sent = [str(n) for n in range(60)]
    for start in range(0, 60, 10):
        client.send_message_batch(QueueUrl=queue, Entries=entries(sent[start : start + 10]))
    sqs.fault("(each message)", "duplicate", times=5)
    found = [message["Body"] for _ in range(9) for message in receive(client, queue)]
    assert len(found) == 65
    assert set(found) == set(sent)
    assert found[:60] != sent


def test_sqs_counts_requests(client, queue, sqs):
    before = sqs.requests()
    client.send_message(QueueUrl=queue, MessageBody="a")
    receive(client, queue)
    assert sqs.requests() - before == {"SendMessage": 1, "ReceiveMessage": 1, "(each message)": 1, "(billed)": 2}
    before = sqs.requests()
    client.send_message(QueueUrl=queue, MessageBody="x" * 200_000)
    assert (sqs.requests() - before)["(billed)"] == 4  # one for each 64 KiB


# --- Pub/Sub ---

at_once = pytest.mark.filterwarnings("ignore:The return_immediately flag is deprecated")


@pytest.fixture(scope="module")
def pubsub():
    with PubSub() as service:
        yield service


@pytest.fixture
def clients(pubsub):
    channel = grpc.insecure_channel(pubsub.environment()["PUBSUB_EMULATOR_HOST"])
    yield (
        PublisherClient(transport=PublisherGrpcTransport(channel=channel)),
        SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)),
    )
    pubsub.clear_faults()
    channel.close()


@pytest.fixture
def paths(clients, name):
    publisher, subscriber = clients
    topic, subscription = f"projects/p/topics/{name}", f"projects/p/subscriptions/{name}"
    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=subscription, topic=topic, ack_deadline_seconds=20)
    return topic, subscription


def pull(subscriber, subscription, most=100):
    return list(
        subscriber.pull(subscription=subscription, max_messages=most, return_immediately=True).received_messages
    )


def publish(publisher, topic, bodies):
    return publisher.publish(topic=topic, messages=[{"data": body.encode()} for body in bodies]).message_ids


@at_once
def test_pubsub_redelivers_messages_since_the_subscription_until_acknowledged(clients, paths, pubsub):
    publisher, subscriber = clients
    topic, subscription = paths
    publish(publisher, topic, "abc")
    first = pull(subscriber, subscription)
    assert {one.message.data for one in first} == {b"a", b"b", b"c"}
    assert pull(subscriber, subscription) == []
    subscriber.acknowledge(subscription=subscription, ack_ids=[first[0].ack_id])
    pubsub.advance(21)
    again = pull(subscriber, subscription)
    assert {one.message.data for one in again} == {one.message.data for one in first[1:]}
    subscriber.modify_ack_deadline(subscription=subscription, ack_ids=[again[0].ack_id], ack_deadline_seconds=0)
    assert len(pull(subscriber, subscription)) == 1
    subscriber.modify_ack_deadline(subscription=subscription, ack_ids=[again[1].ack_id], ack_deadline_seconds=600)
    pubsub.advance(500)
    assert [one.message.data for one in pull(subscriber, subscription)] == [again[0].message.data]


def test_pubsub_rejects_requests_beyond_its_limits(clients, paths):
    publisher, subscriber = clients
    topic, subscription = paths
    refused = [
        lambda: publish(publisher, topic, ["x"] * 1001),
        lambda: publish(publisher, topic, ["x" * 10_000_001]),
        lambda: publish(publisher, topic, []),
        lambda: publish(publisher, topic, [""]),
        lambda: publisher.create_topic(name="projects/p/topics/x"),
        lambda: publisher.create_topic(name="projects/p/topics/google"),
        lambda: subscriber.create_subscription(name=f"{subscription}x", topic=topic, ack_deadline_seconds=9),
        lambda: subscriber.create_subscription(name=f"{subscription}x", topic=topic, ack_deadline_seconds=601),
        lambda: subscriber.modify_ack_deadline(subscription=subscription, ack_ids=["x"], ack_deadline_seconds=601),
        lambda: subscriber.acknowledge(subscription=subscription, ack_ids=["x" * 600_000]),
    ]
    for call in refused:
        with pytest.raises(InvalidArgument):
            call()
    publish(publisher, topic, ["x"] * 1000)
    with pytest.raises(NotFound):
        publish(publisher, f"{topic}-missing", "a")


@at_once
def test_pubsub_counts_deliveries_and_gives_up_with_a_dead_letter_topic(clients, name, pubsub):
    publisher, subscriber = clients
    topic, subscription = f"projects/p/topics/{name}", f"projects/p/subscriptions/{name}"
    publisher.create_topic(name=topic)
    publisher.create_topic(name=f"{topic}-dead")
    policy = {"dead_letter_topic": f"{topic}-dead", "max_delivery_attempts": 5}
    subscriber.create_subscription(request={"name": subscription, "topic": topic, "dead_letter_policy": policy})
    publish(publisher, topic, "a")
    counts = []
    for _ in range(6):
        counts += [one.delivery_attempt for one in pull(subscriber, subscription)]
        pubsub.advance(11)
    assert counts == [1, 2, 3, 4, 5]


def test_pubsub_answers_a_waiting_pull_when_something_comes(clients, paths):
    publisher, subscriber = clients
    topic, subscription = paths
    waiting = subscriber.transport.pull.future if hasattr(subscriber.transport.pull, "future") else None
    assert waiting is not None
    began = time.monotonic()
    future = waiting(
        SubscriberClient.pull.__globals__["pubsub"].PullRequest(subscription=subscription, max_messages=1), timeout=20
    )
    time.sleep(0.3)
    publish(publisher, topic, "a")
    assert [one.message.data for one in future.result().received_messages] == [b"a"]
    assert time.monotonic() - began < 10


def test_pubsub_rejects_requests_when_configured_to(clients, paths, pubsub):
    publisher, _ = clients
    pubsub.fault("Publish", code="PERMISSION_DENIED", message="no", times=1)
    with pytest.raises(GoogleAPICallError, match="403 no"):
        publish(publisher, paths[0], "a")
    publish(publisher, paths[0], "a")


@pytest.mark.parametrize(
    "module", ["shared_lib.tests.services.sqs", "shared_lib.tests.services.pubsub", "shared_lib.tests.services.ec2"]
)
def test_a_double_ends_with_whoever_started_it(module):
    program = (
        "import subprocess, sys, os\n"
        f"double = subprocess.Popen([sys.executable, '-m', '{module}'], stdin=-1, stdout=-1)\n"
        "double.stdout.readline()\n"
        "print(double.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=240)
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while True:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    break
        except OSError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
