"""Which of the machines that were asked for is which of those that the provider has."""

from taskfleet.machines import FailureReason, LaunchedMachine, LaunchFailure, LaunchRequest, LaunchResult
from taskfleet.pool.observation import Assignment, assign

from shared_lib.tests.machines.contract import offer

REQUEST = LaunchRequest(token="job-1-abc", number=3, offers=(offer("t", "z"),), lifetime_seconds=60.0)
FIRST, SECOND, THIRD = REQUEST.tokens
FAILURE = LaunchFailure("t", "z", FailureReason.STOCK_OUT, "No.")


def launched(*names):
    return tuple(LaunchedMachine(name, "t", "z") for name in names)


def assigned(*names):
    """Give the name for each token, and the tokens without one."""
    found = assign(REQUEST, LaunchResult(launched(*names), () if len(names) == 3 else (FAILURE,)))
    return {token: one.instance_id for token, one in found.launched.items()}, found.failed


def test_machines_that_bear_the_tokens_are_those_that_they_name():
    assert assigned(THIRD, SECOND, FIRST) == ({FIRST: FIRST, SECOND: SECOND, THIRD: THIRD}, ())


def test_of_named_machines_any_may_be_missing():
    assert assigned(THIRD) == ({THIRD: THIRD}, (FIRST, SECOND))
    assert assigned(FIRST, THIRD) == ({FIRST: FIRST, THIRD: THIRD}, (SECOND,))


def test_machines_with_names_of_the_provider_s_get_the_tokens_in_order():
    assert assigned("i-7", "i-3", "i-5") == ({FIRST: "i-7", SECOND: "i-3", THIRD: "i-5"}, ())
    assert assigned("i-7", "i-3") == ({FIRST: "i-7", SECOND: "i-3"}, (THIRD,))


def test_a_name_of_the_provider_s_takes_no_token_that_another_machine_bears():
    assert assigned("i-7", FIRST) == ({FIRST: FIRST, SECOND: "i-7"}, (THIRD,))


def test_if_nothing_was_launched_all_tokens_failed():
    assert assigned() == ({}, (FIRST, SECOND, THIRD))


def test_more_machines_than_were_asked_for_have_no_token():
    found = assign(REQUEST, LaunchResult(launched("i-1", "i-2", "i-3", "i-4")))
    assert found == Assignment(
        launched=dict(zip(REQUEST.tokens, launched("i-1", "i-2", "i-3"), strict=True)), failed=()
    )
