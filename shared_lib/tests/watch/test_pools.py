"""What is shown of a job with several pools; with one, nothing names it."""

import pytest
from taskfleet.ledger import managers
from taskfleet.ledger.database import create
from taskfleet.machines import EndReason, LaunchRequest
from taskfleet.pool import control, updates
from taskfleet.pool.diagnosis import diagnose_pools
from taskfleet.pool.planning import Limits
from taskfleet.pool.records import End
from taskfleet.watch.machines import machine_rows
from taskfleet.watch.status import gather
from taskfleet.watch.text import cost_lines
from taskfleet.watch.unattended import describe_unattended

from shared_lib.tests.machines.contract import offer

NOW = 100_000.0
LIMITS, OF_GPU = Limits(boot_seconds=600.0, silent_seconds=210.0), Limits(boot_seconds=60.0, silent_seconds=210.0)


@pytest.fixture
def ledger(tmp_path):
    database = create(tmp_path / "job.db", job_id="job", project=tmp_path, now=0.0)
    yield database
    database.close()


def launch(ledger, manager_id, *, ago=100.0):
    """Record a machine of the pool of a manager; return its token."""
    request = LaunchRequest(
        token=f"job-{manager_id}-{ago:g}", number=1, offers=(offer("big", "here", usd=3.6),), lifetime_seconds=3600.0
    )
    updates.add_request(ledger, request, provider="p", now=NOW - ago, manager_id=manager_id)
    [token] = request.tokens
    updates.mark_started(ledger, token, token, None, NOW - ago, NOW - ago)
    return token


def test_each_machine_has_its_manager_and_the_deadlines_of_its_pool(ledger):
    gpu = managers.number_of(ledger, "gpu")
    launch(ledger, 0), launch(ledger, gpu)
    first, second = machine_rows(ledger, None, LIMITS, NOW, own_limits={"gpu": OF_GPU})
    assert (first.manager, first.remark) == ("default", "")
    assert (second.manager, second.remark) == ("gpu", "overdue: its worker has not started")
    assert second.to_json()["manager"] == "gpu"


def test_costs_and_machines_that_boot_are_told_apart_if_there_are_several_pools(ledger):
    launch(ledger, 0)
    found = gather(ledger, NOW)
    assert len(cost_lines(found.costs)) == 1
    assert "manager" not in found.booting.describe(NOW)
    gpu = managers.number_of(ledger, "gpu")
    ended = launch(ledger, gpu, ago=1100.0)
    updates.mark_ended(ledger, {ended: End(EndReason.PREEMPTED)}, NOW - 100.0)
    launch(ledger, gpu)
    found = gather(ledger, NOW)
    assert cost_lines(found.costs)[1:] == [
        "  pool default: 1 active, 1 in total, 0.1000 USD",
        "  pool gpu: 1 active, 2 in total, 1.10 USD",
    ]
    assert found.booting.describe(NOW).startswith(
        "2 machines have been booting for 1m 40s (1 for manager default, 1 for manager gpu). The pool has no controller"
    )
    assert found.booting.to_json()["managers"] == {"default": 1, "gpu": 1}
    assert found.to_json()["costs"]["by_manager"]["gpu"]["machines_ever"] == 2


def test_each_reason_for_no_progress_has_its_pool(ledger):
    control.acquire(ledger, "here|1|2", NOW)
    launch(ledger, 0)
    [said] = diagnose_pools(ledger, LIMITS, {}, 10, NOW)
    assert said.startswith("1 machine booting; the limit is 10m 00s")
    token = launch(ledger, managers.number_of(ledger, "gpu"))
    default, gpu = diagnose_pools(ledger, LIMITS, {"gpu": OF_GPU}, 10, NOW)
    assert default == f"Pool default: {said}"
    assert gpu.startswith(f"Pool gpu: {token} was launched 1m 40s ago and has sent no heartbeat")
    lost = launch(ledger, 1, ago=1000.0)
    updates.mark_ended(ledger, {lost: End(EndReason.ENDED, "broken")}, NOW - 500.0)
    told = diagnose_pools(ledger, LIMITS, {}, 10, NOW)
    assert [one for one in told if one.startswith("Pool gpu: No task ran on the last 1 machine")]
    assert not [one for one in told if one.startswith("Pool default: No task ran")]


def test_a_manager_without_a_worker_is_left_to_its_pool_if_there_is_one():
    assert "poe explain pool" in describe_unattended("gpu", 3, has_controller=True)
    assert "launch_worker --manager gpu" in describe_unattended("gpu", 3, has_controller=False)
