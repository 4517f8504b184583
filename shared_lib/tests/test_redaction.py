"""Secrets are found and replaced in URLs, variables and texts; what only looks random is left alone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.redaction import redact, redact_variable, secret_in_text, secret_in_variable

SECRET = "hunter2"
#: A text with a secret, and what is shown of it.
URLS = {
    "postgresql://u:hunter2@h/d": "postgresql://u:***@h/d",
    "postgresql://u:hun@ter2@h/d": "postgresql://u:***@h/d",
    "postgresql://h/d?user=u&password=hunter2": "postgresql://h/d?user=u&password=***",
    "postgresql://h/d?sslpassword=hunter2&sslmode=require": "postgresql://h/d?sslpassword=***&sslmode=require",
    "postgresql://h/d?PASSWORD=hunter2": "postgresql://h/d?PASSWORD=***",
    "https://h/t.csv?X-Amz-Signature=hunter2&x=1": "https://h/t.csv?X-Amz-Signature=***&x=1",
    "https://h/t.csv?sig=hunter2": "https://h/t.csv?sig=***",
    "https://h/t?access_token=hunter2": "https://h/t?access_token=***",
    "see redis://:hunter2@h:1/0 for more": "see redis://:***@h:1/0 for more",
}
#: Put together here, so that no scanner takes this file for one with secrets.
TOKENS = [
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "ghp_" + "a1" * 18,
    "github_pat_" + "a1" * 20,
    "glpat-" + "a1" * 10,
    "xoxb-" + "1234567890-abcdef",
    "AIza" + "a1" * 17 + "x",
    "hf_" + "a1" * 17,
    "sk-ant-" + "a1" * 20,
    "pypi-" + "a1" * 30,
]
HARMLESS = [
    "s3://bucket/key",
    "pubsub://my-project/my-topic",
    "https://user@h/x",
    "postgresql://me@host:5432/db?sslmode=require",
    "d41d8cd98f00b204e9800998ecf8427e",
    "task-000001",
    "keys=3, token count 17",
    "https://h/a?page=2&keyword=x",
    "ratio 3:4@once",
]


@pytest.mark.parametrize(("text", "shown"), URLS.items())
def test_a_secret_in_a_url_is_replaced(text, shown):
    assert redact(text) == shown
    assert secret_in_text(text) == "it contains a URL with a password or token"
    assert secret_in_variable("QUEUE_URL", text)


@pytest.mark.parametrize("token", TOKENS, ids=lambda token: token[:6])
def test_a_known_kind_of_token_is_replaced(token):
    assert redact(f"the token {token}, once") == "the token ***, once"
    assert "looks like" in secret_in_text(token)


def test_a_private_key_is_replaced():
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"
    assert redact(f"a\n{key}\nb") == "a\n***\nb"
    assert redact(key[:40]) == "***"
    assert secret_in_text(key) == "it contains a private key"


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_is_left_alone(text):
    assert redact(text) == text
    assert secret_in_text(text) is None


@pytest.mark.parametrize("name", ["DB_PASSWORD", "token", "AWS_SECRET_ACCESS_KEY", "MY_API_KEY", "PGPASSWORD"])
def test_a_variable_with_the_name_of_a_secret_is_hidden(name):
    assert redact_variable(name, "anything") == "***"
    assert redact_variable(name, "") == ""
    assert secret_in_variable(name, "anything")


@given(st.text())
def test_nothing_breaks_and_twice_is_once(text):
    assert redact(redact(text)) == redact(text)


@given(st.dictionaries(st.text("abcXYZ "), st.sampled_from([*URLS, *TOKENS, *HARMLESS])))
def test_redacted_json_stays_json(values):
    assert json.loads(redact(json.dumps(values))).keys() == values.keys()


@pytest.mark.parametrize(
    "text", ["a", "a.", "http://u:", "a://b:", "x://u:x@", "-----BEGIN A ", "?sig=", "eyJ"], ids=repr
)
def test_redacting_takes_time_that_grows_with_the_text_and_not_faster(text):
    """A quadratic search takes minutes for this text; a linear one takes less than a second on a quiet machine."""
    redact(text * (1_000_000 // len(text)))
