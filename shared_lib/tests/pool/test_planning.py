"""What a pool launches next, or why it does not: single decisions. ``test_simulation`` has whole pools."""

import pytest
from taskfleet.machines import FailureReason, LaunchFailure
from taskfleet.pool.cooldowns import MAX_REJECTIONS, MAX_SAME_REJECTIONS, Cooldowns
from taskfleet.pool.planning import HoldReason, Limits, PoolState, plan, with_spares

from shared_lib.tests.machines.contract import offer

NOW = 1_700_000_000.0
SMALL = offer("small", "us-east-1a", usd=0.2, slots=4)
LARGE = offer("large", "us-east-1a", usd=1.0, slots=24)
HUGE = offer("huge", "us-east-1a", usd=10.0, slots=384)
#: The best first: by price per slot.
OFFERS = (HUGE, LARGE, SMALL)


def state(tasks_left=10_000, offers=OFFERS, **more):
    given = {
        "now": NOW,
        "tasks_left": tasks_left,
        "tasks_runnable": tasks_left,
        "open_machines": [],
        "last_heartbeats": {},
        "spent_usd": 0.0,
        "was_ever_ready": False,
        "was_ever_productive": False,
        "failures": [],
        "offers": offers,
        "next_token": "job-1",
    }
    return PoolState(**given | more)


def launched(found):
    return [one.instance_type for one in found.launch.offers]


@pytest.mark.parametrize(
    ("tasks_left", "best"), [(10_000, "huge"), (384, "huge"), (40, "large"), (24, "large"), (4, "small"), (1, "small")]
)
def test_a_machine_fits_the_tasks_that_are_left(tasks_left, best):
    assert launched(plan(state(tasks_left), Limits(), Cooldowns()))[0] == best


def test_a_paused_job_gets_no_machines():
    found = plan(state(is_paused=True), Limits(), Cooldowns())
    assert found.launch is None
    assert (found.hold.reason, found.gives_up) == (HoldReason.PAUSED, False)
    assert plan(state(tasks_left=0, is_paused=True), Limits(), Cooldowns()).is_complete


def test_alternatives_cost_little_more_for_the_tasks_that_are_left():
    also_small = offer("also_small", "us-east-1b", usd=0.22, slots=4)
    assert launched(plan(state(3, (*OFFERS, also_small)), Limits(), Cooldowns())) == ["small", "also_small"]


def refuse(cooldowns, one, reason, text="No."):
    failure = LaunchFailure(one.instance_type, one.zone, reason, text)
    cooldowns.note_request([failure], has_launched=False)
    cooldowns.add_failure(one.kind, reason, NOW, cpus=one.cpus, text=text)


def test_smaller_machines_are_tried_if_a_quota_is_reached_and_if_it_allows_none_the_pool_ends():
    cooldowns = Cooldowns()
    for one in OFFERS:
        found = plan(state(), Limits(), cooldowns)
        assert launched(found)[0] == one.instance_type
        assert not found.gives_up
        refuse(cooldowns, one, FailureReason.QUOTA, "Limit: 0.")
    found = plan(state(), Limits(), cooldowns)
    assert found.hold.reason is HoldReason.QUOTA
    assert found.gives_up
    assert found.hold.text == (
        "the quota of this account is too small for every offer that fits (Limit: 0.). Ask the provider for a higher one"
    )


def test_a_quota_is_waited_for_if_machines_were_ready_before():
    cooldowns = Cooldowns()
    for one in OFFERS:
        refuse(cooldowns, one, FailureReason.QUOTA)
    found = plan(state(was_ever_ready=True), Limits(), cooldowns)
    assert (found.hold.reason, found.gives_up) == (HoldReason.COOLING_DOWN, False)


def test_a_quota_stays_for_larger_machines_after_a_smaller_one_was_launched():
    cooldowns = Cooldowns()
    refuse(cooldowns, HUGE, FailureReason.QUOTA)
    cooldowns.reset(LARGE.kind, LARGE.cpus)
    assert launched(plan(state(), Limits(), cooldowns))[0] == "large"
    cooldowns.reset(HUGE.kind, HUGE.cpus)
    assert launched(plan(state(), Limits(), cooldowns))[0] == "huge"


def test_no_capacity_is_never_final():
    cooldowns = Cooldowns()
    for one in OFFERS:
        refuse(cooldowns, one, FailureReason.STOCK_OUT)
    found = plan(state(), Limits(), cooldowns)
    assert (found.hold.reason, found.gives_up) == (HoldReason.COOLING_DOWN, False)


def offers(number):
    return [offer(f"type{n}", "us-east-1a", usd=1.0 + n, slots=4) for n in range(number)]


def test_the_same_rejection_of_several_offers_ends_the_pool():
    cooldowns, there = Cooldowns(), offers(20)
    for one in there[:MAX_SAME_REJECTIONS]:
        assert not plan(state(offers=there), Limits(), cooldowns).gives_up
        refuse(cooldowns, one, FailureReason.INVALID, f"Value x is wrong for {one.instance_type} in {one.zone}.")
    found = plan(state(offers=there), Limits(), cooldowns)
    assert (found.hold.reason, found.gives_up) == (HoldReason.ALL_REFUSED, True)
    assert found.hold.text.endswith("rejects one offer after the other: Value x is wrong for type2 in us-east-1a.")


def test_many_different_rejections_end_the_pool_too():
    cooldowns, there = Cooldowns(), offers(20)
    for number, one in enumerate(there[:MAX_REJECTIONS]):
        assert not plan(state(offers=there), Limits(), cooldowns).gives_up
        refuse(cooldowns, one, FailureReason.INVALID, f"Reason {number}.")
    assert plan(state(offers=there), Limits(), cooldowns).gives_up


def test_rejections_before_a_launch_do_not_count():
    cooldowns, there = Cooldowns(), offers(20)
    for one in there[: MAX_SAME_REJECTIONS - 1]:
        refuse(cooldowns, one, FailureReason.INVALID)
    cooldowns.note_request([], has_launched=True)
    refuse(cooldowns, there[5], FailureReason.INVALID)
    assert not plan(state(offers=there), Limits(), cooldowns).gives_up


def test_a_request_that_also_met_a_shortage_does_not_count():
    cooldowns = Cooldowns()
    for _ in range(MAX_REJECTIONS):
        failures = [
            LaunchFailure("a", "b", FailureReason.INVALID, "No."),
            LaunchFailure("c", "b", FailureReason.STOCK_OUT, "No."),
        ]
        cooldowns.note_request(failures, has_launched=False)
    assert cooldowns.general_rejection is None


NODE = offer("node", "main", slots=4, nodes=2.0)


@pytest.mark.parametrize(
    ("budget", "least_seconds", "number", "seconds"),
    [
        (100.0, 600.0, 5, 7200.0),
        (10.0, 600.0, 5, 3600.0),  # all machines, for less time each
        (10.0, 6000.0, 3, 6000.0),  # fewer, because a shorter lifetime would be useless
        (1.0, 6000.0, 0, 0.0),
    ],
)
def test_a_budget_in_node_hours_limits_the_number_and_the_lifetime_of_machines(budget, least_seconds, number, seconds):
    limits = Limits(
        max_machines=5,
        budget_node_hours=budget,
        lifetime_seconds=7200.0,
        min_lifetime_seconds=least_seconds,
        needs_canary=False,
    )
    found = plan(state(offers=(NODE,)), limits, Cooldowns())
    if number:
        assert (found.launch.number, found.launch.lifetime_seconds) == (number, pytest.approx(seconds))
    else:
        assert (found.hold.reason, found.gives_up) == (HoldReason.BUDGET, True)
        assert "budget of 1.00 node-hours" in found.hold.text
    assert plan(state(offers=(NODE,), spent_node_hours=budget), limits, Cooldowns()).launch is None


@pytest.mark.parametrize(
    ("budget_usd", "number", "hours"), [(float("inf"), 40, 10.0), (20.0, 10, 10.0), (19.0, 9, 10.0), (3.0, 3, 5.0)]
)
def test_a_pool_without_a_controller_has_as_many_machines_as_the_budget_allows_if_each_runs_for_its_whole_lifetime(
    budget_usd, number, hours
):
    limits = Limits(
        max_machines=3, lifetime_seconds=36_000.0, budget_usd=budget_usd, max_usd_per_hour=0.6, needs_canary=False
    )
    given = state(offers=(SMALL,))
    found = with_spares(plan(given, limits, Cooldowns()).launch, given, limits, 40)
    assert (found.number, found.at_once) == (number, 3)
    assert found.lifetime_seconds == pytest.approx(hours * 3600)
