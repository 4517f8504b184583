"""Errors of SQS and Pub/Sub, with their real clients: transient ones are retried, permanent ones are reported in one sentence."""

import os
from collections import Counter

import pytest
from botocore.exceptions import CredentialRetrievalError
from taskfleet.errors import (
    CredentialsError,
    NotEnabledError,
    PermissionDeniedError,
    QueueError,
    UnreachableError,
    WrongSettingError,
)
from taskfleet.queues import sqs_errors
from taskfleet.queues.addresses import open_transport
from taskfleet.queues.transport import Outgoing

from shared_lib.tests.queues.test_transport import receipts, take

BODIES = [f"message {n}" for n in range(95)]


pytestmark = pytest.mark.skipif(
    bool(os.environ.get("LIVE_CLOUD")), reason="nobody can order faults of the real services"
)


@pytest.fixture
def sqs(running):
    service = running("sqs")
    yield service
    service.clear_faults()


@pytest.fixture
def pubsub(running):
    service = running("pubsub")
    yield service
    service.clear_faults()


@pytest.fixture(params=["sqs", "pubsub"])
def service(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def transport(service, opened, name):
    opened = opened(service, name, patience_seconds=20.0)
    opened.create(tags={})
    yield opened
    service.clear_faults()
    opened.delete()


PASSING = {
    "sqs": [
        {"code": "ThrottlingException", "status": 400},
        {"code": "ServiceUnavailable", "status": 503},
        {"code": "InternalError", "status": 500},
    ],
    "pubsub": [{"code": "UNAVAILABLE"}, {"code": "RESOURCE_EXHAUSTED"}, {"code": "INTERNAL"}, {"code": "ABORTED"}],
}
KINDS = [
    pytest.param(kind, fault, id=f"{kind}-{fault['code']}") for kind, faults in PASSING.items() for fault in faults
]


@pytest.mark.parametrize(("kind", "fault"), KINDS)
def test_every_call_retries_a_transient_error(running, opened, name, kind, fault):
    service = running(kind)
    service.fault("*", **fault, times=None, share=0.5)
    try:
        transport = opened(service, name, patience_seconds=60.0)
        transport.create(tags={})
        transport.send([Outgoing(body) for body in BODIES])
        messages = take(transport, len(BODIES))
        assert {message.body for message in messages} == set(BODIES)
        transport.extend(receipts(messages), 100)
        transport.acknowledge(receipts(messages))
        service.clear_faults()
        service.advance(301)
        assert transport.receive(1, wait_seconds=0, lease_seconds=1) == []
    finally:
        service.clear_faults()
    transport.delete()


def test_a_lost_answer_may_double_a_message_and_loses_none(service, transport):
    send = "SendMessageBatch" if hasattr(service, "transport") and service.module.endswith("sqs") else "Publish"
    service.fault(send, "lost", times=3)
    transport.send([Outgoing(body) for body in BODIES])
    service.clear_faults()
    found = Counter(message.body for message in take(transport, len(BODIES) + 10))
    while messages := transport.receive(50, wait_seconds=0, lease_seconds=300):
        found.update(message.body for message in messages)
    assert set(found) == set(BODIES)
    assert sum(found.values()) > len(BODIES)


def test_only_failed_entries_of_a_batch_are_repeated(sqs, opened, name):
    transport = opened(sqs, name, patience_seconds=30.0)
    transport.create(tags={})
    for action in ("SendMessageBatch", "ChangeMessageVisibilityBatch", "DeleteMessageBatch"):
        sqs.fault(action, "partial", times=4)
    transport.send([Outgoing(body) for body in BODIES])
    messages = take(transport, len(BODIES))
    assert sorted(message.body for message in messages) == sorted(BODIES)
    assert transport.extend(receipts(messages), 200) == set()
    transport.acknowledge(receipts(messages))
    sqs.advance(301)
    assert transport.receive(1, wait_seconds=0, lease_seconds=1) == []
    transport.delete()


def test_a_lasting_error_is_reported_and_the_call_can_be_repeated(service, opened, name):
    transport = opened(service, name, patience_seconds=1.5)
    transport.create(tags={})
    code = {"code": "ServiceUnavailable", "status": 503} if service.module.endswith("sqs") else {"code": "UNAVAILABLE"}
    service.fault("*", **code, times=None)
    with pytest.raises(UnreachableError, match=name):
        transport.send([Outgoing("a")])
    service.clear_faults()
    transport.send([Outgoing("a")])
    assert take(transport, 1)[0].body == "a"
    transport.delete()


SENTENCES = [
    (
        "sqs",
        {"code": "AccessDenied", "status": 403},
        PermissionDeniedError,
        r"lack the permission sqs:SendMessage\. Ask for it to be granted",
    ),
    (
        "sqs",
        {"code": "ExpiredToken", "status": 403},
        CredentialsError,
        r"credentials have expired\. .* nothing is lost",
    ),
    (
        "sqs",
        {"code": "InvalidClientTokenId", "status": 403},
        CredentialsError,
        r"does not know these credentials\. .*AWS_PROFILE",
    ),
    (
        "sqs",
        {"code": "SignatureDoesNotMatch", "status": 403},
        CredentialsError,
        r"secret key or the clock of this machine is wrong",
    ),
    (
        "sqs",
        {"code": "AWS.SimpleQueueService.NonExistentQueue"},
        QueueError,
        r"does not exist in region us-east-1\. .*poe insert_tasks",
    ),
    (
        "pubsub",
        {"code": "PERMISSION_DENIED"},
        PermissionDeniedError,
        r"lacks the permission pubsub\.topics\.publish in project test-project\. .*Editor",
    ),
    (
        "pubsub",
        {"code": "UNAUTHENTICATED"},
        CredentialsError,
        r"does not accept these credentials.*gcloud auth application-default login",
    ),
    (
        "pubsub",
        {
            "code": "UNAVAILABLE",
            "message": "Getting metadata from plugin failed with error: ('invalid_grant: Bad Request', {})",
        },
        CredentialsError,
        r"credentials have expired or were revoked\. Log in",
    ),
    ("pubsub", {"code": "NOT_FOUND"}, QueueError, r"does not exist in project test-project\. .*poe insert_tasks"),
    (
        "pubsub",
        {"code": "PERMISSION_DENIED", "message": "Cloud Pub/Sub API has not been used in project 1 before"},
        NotEnabledError,
        r"Pub/Sub is not enabled in project test-project: gcloud services enable",
    ),
]


@pytest.mark.parametrize(
    ("kind", "fault", "error", "sentence"),
    SENTENCES,
    ids=[f"{kind}-{fault['code']}-{n}" for n, (kind, fault, _, _) in enumerate(SENTENCES)],
)
def test_a_permanent_error_is_reported_at_once_with_the_remedy(running, opened, name, kind, fault, error, sentence):
    service = running(kind)
    transport = opened(service, name, patience_seconds=30.0)
    transport.create(tags={})
    service.fault("SendMessageBatch" if kind == "sqs" else "Publish", **fault, times=None)
    with pytest.raises(error, match=sentence) as caught:
        transport.send([Outgoing("a")])
    service.clear_faults()
    assert "\n" not in str(caught.value)
    transport.delete()


def test_missing_credentials_and_a_missing_region_are_reported(sqs, name, monkeypatch, tmp_path):
    for variable in list(os.environ):
        if variable.startswith("AWS_"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(WrongSettingError, match=r"the AWS region is unknown\. Set AWS_REGION"):
        open_transport(f"sqs://{name}", "job")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", sqs.environment()["AWS_ENDPOINT_URL_SQS"])
    with pytest.raises(CredentialsError, match=r"no AWS credentials were found\. Log in"):
        open_transport(f"sqs://{name}", "job").exists()
    monkeypatch.setenv("AWS_PROFILE", "missing")
    with pytest.raises(CredentialsError, match=r"AWS_PROFILE"):
        open_transport(f"sqs://{name}", "job")


@pytest.mark.parametrize(
    ("provider", "kind"),
    [("iam-role", UnreachableError), ("container-role", UnreachableError), ("sso", CredentialsError)],
)
def test_credentials_that_a_machine_s_role_does_not_give_for_a_moment_are_an_outage(provider, kind):
    error = CredentialRetrievalError(provider=provider, error_msg="Credential refresh failed")
    found = sqs_errors.explain(error, address="sqs://a", operation="ReceiveMessage", region="us-east-1")
    assert type(found) is kind


def test_missing_google_credentials_are_reported(name, monkeypatch, tmp_path):
    for variable in ("PUBSUB_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # else the metadata server is looked for
    with pytest.raises(CredentialsError, match=r"no Google Cloud credentials were found\. Log in \(gcloud"):
        open_transport(f"pubsub://project/{name}", "job")


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("sqs://a b", "1 to 80 letters"),
        ("sqs://" + "a" * 80, "1 to 80 letters"),
        ("https://sqs.eu-west-1.amazonaws.com/x", "write sqs://NAME"),
        ("pubsub://project/1", "write pubsub://PROJECT/NAME"),
        ("pubsub://project/google-x", "does not begin with goog"),
    ],
)
def test_a_wrong_address_is_refused(sqs, address, wanted):
    with pytest.raises(QueueError, match=wanted):
        open_transport(address, "job", of_events=True)
