"""poe explain, calibrate and machines, and what a pool has cost, from a ledger that says what happened."""

import json
import re
import time

import pytest
from taskfleet.ledger import leasing
from taskfleet.ledger.database import open_ledger
from taskfleet.machine_terms import Market
from taskfleet.machines import EndReason, LaunchRequest
from taskfleet.pool import control, updates
from taskfleet.pool.records import End

from shared_lib.tests.machines.contract import offer


@pytest.fixture
def ledger(project, poe):
    """The ledger of a job of four tasks, none of them run."""
    assert poe("insert_tasks").code == 0
    database = open_ledger(project / "jobs" / "sums.db", job_id="sums", project=project)
    yield database
    database.close()


def order(ledger, token, *, number=1, ago=3600.0, usd=0.36):
    """Write down machines as ordered some time ago."""
    made = LaunchRequest(
        token=token, number=number, offers=(offer("c5.large", "us-east-1a", Market.SPOT, usd, 2),), lifetime_seconds=1e5
    )
    updates.add_request(ledger, made, provider="local", now=time.time() - ago)
    return made.tokens


def work_on(ledger, instance_id, *, seen_ago=0.0):
    now = time.time() - seen_ago
    process = f"elsewhere|{instance_id}|1"
    return leasing.register(
        ledger, hostname="h", process=process, pid=1, slots=2, lease_seconds=60.0, now=now, machine=instance_id
    )


def test_what_machines_cost_and_what_of_that_was_for_nothing(poe, ledger):
    now = time.time()
    ready, late = order(ledger, "sums-1-a", number=2)
    for token in (ready, late):
        updates.mark_started(ledger, token, token, None, now - 3500, now - 3500)
    updates.mark_ready(ledger, [ready], now - 1800)
    worker = work_on(ledger, ready)
    ledger.execute("UPDATE worker SET busy_seconds = 1800 WHERE worker_id = ?", (worker,))  # of two slots for 1800 s
    updates.mark_ended(ledger, {late: End(EndReason.LATE)}, now - 1800)
    costs = json.loads(poe("status", "--json").out)["costs"]
    assert costs["so_far_usd"] == pytest.approx(0.36 + 0.18, abs=0.001)
    assert costs["boot_usd"] == pytest.approx(0.18 + 0.18, abs=0.001)
    assert costs["idle_usd"] == pytest.approx(0.09, abs=0.001)
    assert costs["wasted_usd"] == pytest.approx(0.45, abs=0.002)
    assert (costs["machines"], costs["machines_ever"]) == (1, 2)
    assert costs["usd_per_hour"] == pytest.approx(0.36)
    assert "Cost so far: 0.5400 USD" in poe("status").out


def test_the_job_is_explained(poe, ledger):
    assert (
        poe("explain").out
        == "4 tasks left, but no worker is running. Start one: uv run poe launch_worker or uv run poe deploy_pool\n"
    )
    work_on(ledger, None)
    assert "No task ended in the last minute" in poe("explain").out


def test_a_job_that_is_done_is_explained(poe, trouble):
    assert poe("explain").out == "All tasks have ended, 2 failed. uv run poe tasks --state failed lists them.\n"


@pytest.mark.parametrize(
    ("task_id", "words"),
    [
        ("t0", "Task t0 is done: attempt 1 succeeded."),
        ("t1", "Task t1 failed (exception) after 1 attempt and is not retried: ValueError: invalid input"),
        ("t2", "poe retry t2"),
    ],
)
def test_tasks_that_came_to_an_end_are_explained(poe, trouble, task_id, words):
    assert words in poe("explain", task_id).out


def test_tasks_that_wait_or_run_are_explained(poe, ledger):
    assert "is pending, but no worker is running" in poe("explain", "t3").out
    worker = work_on(ledger, None)
    leasing.lease(ledger, worker, 1, skip=0, lease_seconds=60.0, now=time.time())
    assert "Task t0, attempt 1, is leased by a worker on h (last heartbeat" in poe("explain", "t0").out
    ledger.execute("UPDATE worker SET seen_at = seen_at - 1000")
    assert "last heartbeat was 16m 40s ago" in poe("explain", "t0").out
    assert "poe release revokes this and all other leases" in poe("explain", "t0").out
    said = poe("explain", "nothing")
    assert said.code == 1
    assert "has no task 'nothing'" in said.err


def test_a_pool_is_explained(poe, ledger):
    now = time.time()
    assert "The pool has no controller, and no machines exist." in poe("explain", "pool").out
    [token] = order(ledger, "sums-1-a")
    updates.mark_started(ledger, token, "i-1", None, now - 3500, now - 3500)
    assert "1 machine may still exist, and failed machines are not replaced." in poe("explain", "pool").out
    control.acquire(ledger, "here|1|2", now)
    found = poe("explain", "pool").out
    assert "i-1 was launched 58m" in found
    assert "poe machines --console i-1" in found
    work_on(ledger, "i-1", seen_ago=600.0)
    assert "The last heartbeat from i-1 was 10m 00s ago." in poe("explain", "pool").out
    tokens = order(ledger, "sums-2-b", number=3, ago=60.0)
    updates.mark_never_started(ledger, dict.fromkeys(tokens, End(EndReason.STOCK_OUT, "Insufficient capacity")))
    assert (
        "3 machines not launched in the last hour (no capacity), the last one c5.large in us-east-1a"
        in poe("explain", "pool").out
    )
    assert "is used up" not in poe("explain", "pool").out
    assert "The budget of 0.40 USD is used up" in poe("explain", "pool", "--budget-usd", "0.4").out


def test_machines_are_listed_with_what_is_overdue(poe, ledger):
    now = time.time()
    [token] = order(ledger, "sums-1-a")
    updates.mark_started(ledger, token, "i-1", None, now - 3500, now - 3500)
    [row] = [json.loads(line) for line in poe("machines", "--json").out.splitlines()]
    assert (row["instance_id"], row["remark"]) == ("i-1", "not in the provider's list")
    assert row["usd"] == pytest.approx(0.36, abs=0.001)
    updates.mark_ended(ledger, {token: End(EndReason.GONE)}, now)
    assert poe("machines").out.startswith("No active machines. --all includes those that have ended.")
    assert "no longer listed by the provider" in poe("machines", "--all").out


def test_machines_are_filtered_sorted_and_shown_in_detail(poe, ledger):
    now = time.time()
    for n in (2, 1, 3):
        [token] = order(ledger, f"sums-{n}-a")
        updates.mark_started(ledger, token, f"i-{n}", None, now - n, now - n)
    updates.mark_ended(ledger, {"sums-3-a-1": End(EndReason.GONE)}, now)

    def listed(*words):
        return [json.loads(line)["instance_id"] for line in poe("machines", "--json", *words).out.splitlines()]

    assert listed() == ["i-2", "i-1"]
    assert listed("--sort-by", "id") == ["i-1", "i-2"]
    assert listed("--sort-by", "creation_time", "--include-terminated") == ["i-3", "i-2", "i-1"]
    assert listed("--sort-by", "-machine", "--all", "--limit", "2") == ["i-3", "i-2"]
    assert listed("--filter", "I-1") == ["i-1"]
    assert poe("machines", "--filter", "nothing").out.startswith("No machine matches --filter nothing.")
    detail = poe("machines", "--detail", "--limit", "1").out
    assert re.search(r"^instance id +i-2$", detail, re.MULTILINE)
    assert re.search(r"^created at +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", detail, re.MULTILINE)
    assert "… and 1 more; --limit 0 lists all." in detail


@pytest.mark.slow
def test_a_sample_says_what_all_tasks_take(poe, project):
    (project / "task.py").write_text(
        "import time\n\ndef run_task(num1, num2):\n    x = bytearray(b'x') * (300 << 20)\n    time.sleep(0.3)\n"
    )
    assert poe("insert_tasks").code == 0
    found = json.loads(poe("calibrate", "--sample", "3", "--json").out)
    assert (found["tasks"], found["failed"], found["tasks_left"]) == (3, 0, 4)
    assert 0.3 < found["mean_seconds"] <= found["longest_seconds"]
    assert 300 < found["most_memory_mib"] < 400
    assert found["memory_gib_per_task"] == 0.5
    assert found["hours"] == pytest.approx(4 * found["mean_seconds"] / 3600 / 2, rel=0.5)
    counts = json.loads(poe("status", "--json").out)["counts"]
    assert counts["pending"] == 4
    (project / "task.py").write_text("def run_task(num1, num2):\n    raise ValueError('always')\n")
    said = poe("calibrate", "--sample", "2")
    assert said.code == 1
    assert "None of 2 tasks succeeded. The first error:" in said.err
    assert "ValueError: always" in said.err


def test_a_local_plan_says_what_limits_it(poe, project):
    said = poe("plan", "--tasks", "100000", "--machines", "1-5000", "--tasks-per-machine", "1")
    assert "The number of machines is limited by: this computer's CPUs.\n" in said.out
    said = poe("plan", "--tasks", "100000", "--machines", "1-5000", "--tasks-per-machine", "1", "--total-cpus", "1")
    assert "The number of machines is limited by: the total number of CPUs (TOTAL_CPUS).\n" in said.out


def test_the_console_of_a_machine_that_has_ended_or_never_was_is_an_error(poe, ledger):
    now = time.time()
    ended, booting = order(ledger, "sums-1-a", number=2)
    updates.mark_started(ledger, ended, ended, None, now - 3500, now - 3500)
    updates.mark_ended(ledger, {ended: End(EndReason.LATE)}, now - 1800)
    said = poe("machines", "--console", ended)
    assert (said.code, said.out) == (1, "")
    assert (
        f"Machine {ended} has ended (no worker started in time), and its provider keeps no console output" in said.err
    )
    said = poe("machines", "--console", "nobody")
    assert (said.code, said.out) == (1, "")
    assert "has no machine 'nobody'" in said.err
    said = poe("machines", "--console", booting)
    assert (said.code, said.out) == (0, f"Machine {booting} has printed nothing yet.\n")
