"""What there is to say of each machine, of the ledger's and the provider's knowledge together."""

import json

import pytest
from taskfleet.invocation import poe
from taskfleet.ledger import leasing
from taskfleet.ledger.database import create
from taskfleet.machines import EndReason, LaunchRequest, Machine, MachineState
from taskfleet.pool import control, updates
from taskfleet.pool.diagnosis import diagnose_pools
from taskfleet.pool.planning import Limits
from taskfleet.pool.records import End
from taskfleet.watch.machines import ORDERED, machine_rows
from taskfleet.watch.status import gather
from taskfleet.watch.text import cost_line

from shared_lib.tests.machines.contract import offer

NOW = 100_000.0
LIMITS = Limits(boot_seconds=600.0, silent_seconds=210.0)


@pytest.fixture
def ledger(tmp_path):
    database = create(tmp_path / "job.db", job_id="job", project=tmp_path, now=0.0)
    yield database
    database.close()


def ask(ledger, number=1, *, ago=3600.0, can_queue=True):
    request = LaunchRequest(
        token=f"job-{ago:g}", number=number, offers=(offer("big", "here", usd=3.6),), lifetime_seconds=3600.0
    )
    updates.add_request(ledger, request, provider="p", now=NOW - ago, can_queue=can_queue)
    return request.tokens


def accept(ledger, *tokens, ago=3600.0, running_ago=None):
    for token in tokens:
        running_at = None if running_ago is None else NOW - running_ago
        updates.mark_started(ledger, token, token, None, NOW - ago, running_at)


def listed(token, state, **more):
    return Machine(instance_id=token, request_token=token.rpartition("-")[0], state=state, **more)


def rows(ledger, *machines, **more):
    return machine_rows(ledger, machines, LIMITS, NOW, **more)


def test_a_machine_that_is_queued_says_why_and_is_not_overdue(ledger):
    [token] = ask(ledger)
    accept(ledger, token)
    [row] = rows(ledger, listed(token, MachineState.QUEUED, detail="Priority"))
    assert (row.state, row.detail, row.remark, row.usd) == (MachineState.QUEUED, "Priority", "Priority", 0.0)
    assert (row.created_at, row.running_at) == (NOW - 3600.0, None)


def test_if_its_provider_does_not_answer_the_ledger_says_that_it_is_queued(ledger):
    [token] = ask(ledger)
    accept(ledger, token)
    updates.update_details(ledger, {token: "Resources"})
    [row] = machine_rows(ledger, None, LIMITS, NOW)
    assert (row.state, row.remark) == (MachineState.QUEUED, "Resources")


def test_a_machine_of_which_nothing_was_seen_is_ordered(ledger):
    ask(ledger, ago=60.0)
    [row] = rows(ledger)
    assert (row.state, row.remark) == (ORDERED, "")


def test_its_boot_is_overdue_when_it_ran_for_too_long_without_a_worker(ledger):
    [token] = ask(ledger)
    accept(ledger, token, running_ago=601.0)
    starting = listed(token, MachineState.STARTING, detail="ContainerCreating")
    assert rows(ledger, starting)[0].remark == "overdue: its worker has not started"
    [other] = ask(ledger, ago=3000.0)
    accept(ledger, other, running_ago=500.0)
    assert rows(ledger, starting, listed(other, MachineState.STARTING, detail="Pulling"))[1].remark == "Pulling"


def test_one_that_ended_has_its_reason_as_a_code_and_in_words(ledger):
    [token] = ask(ledger)
    accept(ledger, token)
    updates.mark_ended(ledger, {token: End(EndReason.CANCELLED, "CANCELLED by 1000")}, NOW - 60)
    assert rows(ledger) == []
    [row] = rows(ledger, with_ended=True)
    assert (row.end_reason, row.detail) == (EndReason.CANCELLED, "CANCELLED by 1000")
    assert row.remark == "removed from the queue: CANCELLED by 1000"
    told = json.loads(json.dumps(row.to_json()))
    assert (told["state"], told["end_reason"], told["market"]) == ("ended", "cancelled", "on-demand")


def test_one_that_is_not_in_the_ledger_is_listed_too(ledger):
    [row] = rows(ledger, listed("other-1-1", MachineState.QUEUED, created_at=5.0))
    assert (row.token, row.created_at, row.usd, row.remark) == ("other-1", 5.0, None, "not in this ledger")
    assert machine_rows(None, [listed("other-1-1", MachineState.ENDED)], LIMITS, NOW) == []


def test_what_waits_is_no_cost_and_is_counted_apart(ledger):
    first, second, third = ask(ledger, 3)
    accept(ledger, first, second, third)
    updates.mark_running(ledger, {first: NOW - 100.0})
    costs = gather(ledger, NOW).costs
    assert (costs.machines, costs.machines_queued) == (3, 2)
    assert (costs.so_far_usd, costs.boot_usd) == (pytest.approx(0.1), pytest.approx(0.1))
    assert costs.usd_per_hour == pytest.approx(3.6)
    assert cost_line(costs).startswith("Machines: 3 active (2 queued), 3 in total. Cost so far: 0.1000 USD")


def test_parts_of_nodes_cost_node_hours_and_usd_only_if_they_have_a_price(ledger):
    for ago, usd in ((3600.0, 0.0), (3000.0, 3.6)):
        part = offer("part", "main", usd=usd, nodes=0.5)
        request = LaunchRequest(token=f"job-{ago:g}", number=2, offers=(part,), lifetime_seconds=7200.0)
        updates.add_request(ledger, request, provider="p", now=NOW - ago, can_queue=True)
        first, second = request.tokens
        accept(ledger, first, running_ago=720.0)
        accept(ledger, second)
        costs = gather(ledger, NOW).costs
        said = cost_line(costs)
        if usd == 0:
            assert (costs.node_hours.so_far, costs.node_hours.boot, costs.node_hours.per_hour) == (0.1, 0.1, 0.5)
            assert "Cost so far: 0.1000 node-hours, 0.5 nodes now, " in said
            assert "wasted: 0.1000 node-hours booting, 0.00 node-hours idle or lost." in said
            assert "USD" not in said
    assert "Cost so far: 0.2000 node-hours, 1 node now, " in said
    assert "; in USD: 0.7200 USD, 3.6000 USD per hour now" in said
    assert [one.node_hours for one in rows(ledger)] == [0.1, 0.0, 0.1, 0.0]
    [explained] = [one for one in diagnose_pools(ledger, Limits(budget_node_hours=4.05), {}, 9, NOW) if "budget" in one]
    assert "The budget of 4.05 node-hours is used up: 0.20 node-hours are spent, and 3.80 node-hours" in explained


def test_the_boot_of_what_waited_costs_from_its_start(ledger):
    [token] = ask(ledger)
    accept(ledger, token, running_ago=200.0)
    updates.mark_ready(ledger, [token], NOW - 150.0)
    leasing.register(
        ledger, hostname="h", process="p|1|1", pid=1, slots=1, lease_seconds=60.0, now=NOW - 150.0, machine=token
    )
    costs = gather(ledger, NOW).costs
    assert costs.boot_usd == pytest.approx(0.05)
    assert costs.idle_usd == pytest.approx(0.15)


def test_a_pool_that_waits_in_a_queue_is_explained(ledger):
    control.acquire(ledger, "here|1|2", NOW)
    first, second = ask(ledger, 2, ago=7200.0)
    accept(ledger, first, second, ago=7200.0)
    updates.update_details(ledger, {first: "Priority", second: "Priority"})
    [said] = diagnose_pools(ledger, LIMITS, {}, 10, NOW)
    assert said == (
        "2 machines in the provider's queue, the first for 2h 00m, at no cost. The provider reports: Priority."
    )
    updates.mark_running(ledger, {first: NOW - 400.0})
    updates.update_details(ledger, {first: "ImagePullBackOff"})
    said, queue = diagnose_pools(ledger, LIMITS, {}, 10, NOW)
    assert said == (
        f"{first} started 6m 40s ago and has sent no heartbeat (the provider reports: ImagePullBackOff). "
        f"{poe(f'machines --console {first}')} shows its console."
    )
    assert queue.startswith("1 machine in the provider's queue")
