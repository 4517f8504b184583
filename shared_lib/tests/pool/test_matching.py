"""Matching of recorded machines with those that the provider lists."""

from taskfleet.machine_terms import Market
from taskfleet.machines import (
    EndReason,
    FailureReason,
    LaunchedMachine,
    LaunchFailure,
    LaunchRequest,
    LaunchResult,
    Machine,
    MachineState,
)
from taskfleet.pool.matching import LIST_GRACE_SECONDS, Assignment, Changes, assign, compare
from taskfleet.pool.records import End, MachineRecord

from shared_lib.tests.machines.contract import offer

REQUEST = LaunchRequest(token="job-1-abc", number=3, offers=(offer("t", "z"),), lifetime_seconds=60.0)
FIRST, SECOND, THIRD = REQUEST.tokens
FAILURE = LaunchFailure("t", "z", FailureReason.STOCK_OUT, "No.")


def launched(*names):
    return tuple(LaunchedMachine(name, "t", "z") for name in names)


def assigned(*names):
    """Return the ID of each token, and the tokens without one."""
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


def test_more_machines_than_were_requested_have_no_token():
    found = assign(REQUEST, LaunchResult(launched("i-1", "i-2", "i-3", "i-4")))
    assert found == Assignment(
        launched=dict(zip(REQUEST.tokens, launched("i-1", "i-2", "i-3"), strict=True)), failed=()
    )


# --- machines that may be queued ---

NOW = 100_000.0
ASKED_AT = NOW - 10_000.0


def record(**more):
    """Return a record of a machine that may be queued, requested and accepted long ago."""
    values = {
        "token": FIRST,
        "order_token": REQUEST.token,
        "instance_id": FIRST,
        "provider": "p",
        "zone": "z",
        "instance_type": "t",
        "market": Market.SPOT,
        "usd_per_hour": 3600.0,
        "slots": 1,
        "cpus": 1,
        "lifetime_seconds": 3600.0,
        "ordered_at": ASKED_AT,
        "started_at": ASKED_AT,
        "ready_at": None,
        "ended_at": None,
        "end_reason": None,
        "ending_since": None,
        "detail": "",
        "can_queue": True,
        "running_at": None,
    }
    return MachineRecord(**(values | more))


def listed(state, **more):
    return Machine(instance_id=FIRST, request_token=REQUEST.token, state=state, **more)


def seen(one, machine, listed_at=NOW - 60.0):
    return compare([one], [] if machine is None else [machine], NOW, listed_at)


def test_a_machine_that_is_queued_does_not_run():
    found = seen(record(), listed(MachineState.QUEUED, detail="Priority"))
    assert found == Changes(details={FIRST: "Priority"})
    assert record().is_queued
    assert record().cost_usd(NOW) == 0
    assert record().max_cost_usd(NOW) == 3600.0


def test_the_reason_for_waiting_is_recorded_when_it_changes():
    one = record(detail="Priority")
    assert seen(one, listed(MachineState.QUEUED, detail="Priority")) == Changes()
    assert seen(one, listed(MachineState.QUEUED, detail="Resources")).details == {FIRST: "Resources"}
    assert seen(one, listed(MachineState.RUNNING, running_since=NOW - 5)).details == {FIRST: ""}


def test_it_runs_from_the_start_that_its_provider_reports():
    found = seen(record(), listed(MachineState.RUNNING, running_since=NOW - 300.0))
    assert found == Changes(running_at={FIRST: NOW - 300.0})


def test_a_clock_that_differs_has_it_run_neither_before_its_request_nor_later_than_now():
    assert seen(record(), listed(MachineState.RUNNING, running_since=1.0)).running_at == {FIRST: ASKED_AT}
    assert seen(record(), listed(MachineState.RUNNING, running_since=NOW + 99)).running_at == {FIRST: NOW}


def test_without_a_reported_start_it_runs_since_it_was_last_listed_as_queued():
    running = listed(MachineState.RUNNING)
    assert seen(record(), running).running_at == {FIRST: NOW - 60.0 - LIST_GRACE_SECONDS}
    assert seen(record(), running, listed_at=None).running_at == {FIRST: ASKED_AT}
    assert seen(record(started_at=NOW - 10.0), running).running_at == {FIRST: NOW - 10.0}
    assert seen(record(started_at=None, instance_id=None), running).running_at == {FIRST: ASKED_AT}


def test_its_end_is_when_its_provider_reports_it():
    ended = listed(MachineState.ENDED, end_reason=EndReason.ENDED, running_since=NOW - 300.0, ended_at=NOW - 30.0)
    assert seen(record(running_at=NOW - 300.0), ended).ended[FIRST].ended_at == NOW - 30.0
    assert seen(record(), ended).ended[FIRST].ended_at == NOW - 30.0


def test_one_that_is_ended_before_it_ran_was_cancelled():
    gone = listed(MachineState.ENDED, detail="CANCELLED by 1000")
    assert seen(record(), gone).ended == {FIRST: End(EndReason.CANCELLED, "CANCELLED by 1000")}
    assert seen(record(started_at=None, instance_id=None), gone).ended == {
        FIRST: End(EndReason.CANCELLED, "CANCELLED by 1000")
    }


def test_one_that_ran_and_ended_between_two_looks_has_run():
    gone = listed(MachineState.ENDED, detail="TIMEOUT", running_since=NOW - 30.0)
    assert seen(record(), gone).ended == {FIRST: End(EndReason.ENDED, "TIMEOUT", NOW - 30.0)}


def test_a_machine_with_a_heartbeat_has_run_whatever_its_provider_reports():
    gone = listed(MachineState.ENDED)
    assert seen(record(ready_at=NOW - 500.0), gone).ended == {FIRST: End(EndReason.GONE, "", NOW - 500.0)}


def test_one_that_vanished_may_have_run_since_it_was_last_known_to_wait():
    assert seen(record(), None).ended == {FIRST: End(EndReason.GONE, "", NOW - 60.0 - LIST_GRACE_SECONDS)}


def test_one_that_vanished_while_nobody_looked_may_have_run_for_its_whole_lifetime():
    assert seen(record(), None, listed_at=None).ended == {FIRST: End(EndReason.GONE, "", NOW - 3600.0)}
    asked = record(started_at=None, instance_id=None)
    assert seen(asked, None, listed_at=None).ended == {FIRST: End(EndReason.GONE, "", NOW - 3600.0)}
    assert seen(asked, None).ended == {FIRST: End(EndReason.NEVER_STARTED)}


def test_a_machine_that_cannot_be_queued_runs_from_when_it_is_first_seen():
    one = record(can_queue=False, started_at=None, instance_id=None)
    machine = listed(MachineState.STARTING)
    assert seen(one, machine) == Changes(started={FIRST: machine}, running_at={FIRST: NOW})
    gone = listed(MachineState.ENDED, detail="User initiated")
    assert seen(one, gone).ended == {FIRST: End(EndReason.ENDED, "User initiated")}
    assert seen(record(can_queue=False, running_at=ASKED_AT), None).ended == {FIRST: End(EndReason.GONE)}
