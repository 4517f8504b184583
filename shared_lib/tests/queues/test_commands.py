"""The commands, over each service."""

import json
import signal
import time

import pytest

from shared_lib.tests.queues.test_whole_jobs import Place

TASK = "def run_task(n): return n * n"

pytestmark = pytest.mark.slow


@pytest.fixture
def home(service, name, tmp_path):
    """A project with a ledger; its queues are deleted in the end."""
    place = Place(tmp_path / "home", service, name, task=TASK, IDLE_SECONDS=2, LEASE_SECONDS=30)
    yield place
    database = place.folder / "jobs" / f"{name}.db"
    if database.exists():
        place.run("delete_queue", "--yes")


def insert(home, numbers, code=0):
    (home.folder / "tasks.json").write_text(json.dumps([{"task_id": f"t{n}", "n": n} for n in numbers]))
    return home.run("insert_tasks", code=code)


def counts(home):
    return {word: n for word, n in json.loads(home.run("status", "--json"))["counts"].items() if n}


def work(home):
    return home.run("launch_worker")


def test_a_job_from_its_insertion_to_its_deletion(home, name):
    said = insert(home, range(50))
    assert "Inserted 50 tasks" in said
    assert counts(home) == {"pending": 50}
    shown = json.loads(home.run("show_queue", "--json"))
    assert shown["ledger"]["pending"] == 50
    assert shown["ledger"]["unsent"] == 0
    assert shown["sample"]["job_id"] == name
    assert shown["sample"]["deliveries"] in (0, 1)
    text = home.run("show_queue")
    assert "in the ledger (exact)" in text
    assert "Sample:" in text
    worker = work(home)
    assert "50 tasks done here" in worker
    assert "poe monitor" in worker
    said = home.run("monitor", "--print-events", "--event-file", "events.jsonl")
    assert "JOB COMPLETE" in said
    printed = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    kept = [json.loads(line) for line in (home.folder / "events.jsonl").read_text().splitlines()]
    assert printed == kept
    assert sorted(event["task_id"] for event in kept) == sorted(f"t{n}" for n in range(50))
    assert counts(home) == {"succeeded": 50}
    (home.folder / "events.jsonl").unlink()
    home.run("monitor", "--event-file", "events.jsonl")  # a lost file is made again from the ledger
    again = [json.loads(line) for line in (home.folder / "events.jsonl").read_text().splitlines()]
    assert {event["task_id"] for event in again} == {f"t{n}" for n in range(50)}
    home.run("results", "-o", "results.json")
    rows = json.loads((home.folder / "results.json").read_text())
    assert {row["n"]: row["result"] for row in rows} == {n: n * n for n in range(50)}
    assert "Deleted" in home.run("delete_queue", "--yes")
    said = home.run("launch_worker", code=1)
    assert "Traceback" not in said


def test_a_sample_does_not_count_as_a_loss(home):
    insert(home, range(1))
    for _ in range(4):
        assert json.loads(home.run("show_queue", "--json"))["sample"]["deliveries"] in (0, 1)
    work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 1}
    assert json.loads(home.run("status", "--json"))["lost"] == 0


def test_purged_tasks_are_killed_and_can_be_put_back(home):
    insert(home, range(20))
    assert "Removed 20 tasks from the queue" in home.run("purge_queue", "--yes")
    assert counts(home) == {"killed": 20}
    assert "0 tasks done here" in work(home)
    home.run("retry", "--killed")
    assert counts(home) == {"pending": 20}
    assert "20 tasks done here" in work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 20}


def test_failed_tasks_are_sent_again_by_retry(home):
    (home.folder / "task.py").write_text("def run_task(n): assert n % 2")
    insert(home, range(10))
    work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 5, "failed": 5}
    (home.folder / "task.py").write_text(TASK)
    home.run("retry", "--failed")
    assert "5 tasks done here" in work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 10}


def test_inserting_twice_sends_nothing_twice_and_more_is_added(home):
    insert(home, range(10))
    insert(home, range(15))
    assert counts(home) == {"pending": 15}
    assert "15 tasks done here" in work(home)


def test_released_tasks_are_sent_again_and_whichever_is_done_first_counts(home):
    insert(home, range(5))
    home.run("release")
    work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 5}


def test_the_monitor_can_be_stopped_and_goes_on_elsewhere(home):
    insert(home, range(10))
    monitor = home.start("monitor", "--no-auto-complete")
    work(home)
    deadline = time.monotonic() + 60
    while counts(home) != {"succeeded": 10}:
        assert time.monotonic() < deadline, home.text()
        time.sleep(0.2)
    assert monitor.poll() is None
    monitor.send_signal(signal.SIGINT)
    assert monitor.wait(30) == 130
    assert "Next: uv run poe monitor  (to continue)" in home.text()
    insert(home, range(20))
    work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 20}


def test_tasks_move_to_the_ledger_and_back(home, service, name):
    insert(home, range(30))
    work_first = home.run("launch_worker", "--max-tasks", "10")
    assert "10 tasks done here" in work_first
    said = home.run("move_queue", "--to", "ledger", "--yes")
    assert "Moved 20 tasks to ledger" in said
    assert counts(home) == {"succeeded": 10, "pending": 20}
    said = home.run("launch_worker", code=1)
    assert "is ledger, but QUEUE_URL is" in said
    env = home.folder / "config" / "task.env"
    before = env.read_text()
    env.write_text(before.replace(f"QUEUE_URL={service.queue_url(name)}", "QUEUE_URL=ledger"))
    home.run("launch_worker", "--max-tasks", "5")
    assert counts(home) == {"succeeded": 15, "pending": 15}
    service.advance(61)  # until when SQS refuses a queue of the deleted one's name, which would be waited for
    assert "Moved 15 tasks" in home.run("move_queue", "--to", service.queue_url(name), "--yes")
    env.write_text(before)
    assert "15 tasks done here" in work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 30}


def test_tasks_move_to_another_queue_of_the_service_and_none_runs_twice(home, service, name):
    other = service.queue_url(f"{name}-other")
    if other == service.queue_url(name):
        pytest.skip("one PostgreSQL database has one queue of a job")
    insert(home, range(20))
    home.run("launch_worker", "--max-tasks", "12")
    assert "Moved 8 tasks to" in home.run("move_queue", "--to", other, "--yes")
    env = home.folder / "config" / "task.env"
    env.write_text(env.read_text().replace(f"QUEUE_URL={service.queue_url(name)}", f"QUEUE_URL={other}"))
    assert "8 tasks done here" in work(home)
    home.run("monitor")
    status = json.loads(home.run("status", "--json"))
    assert (status["counts"]["succeeded"], status["duplicates"]) == (20, 0)


def test_a_copied_task_is_done_once_in_the_ledger(home, service, name, tmp_path):
    insert(home, range(12))
    other = service.queue_url(f"{name}-copy")
    if other == service.queue_url(name):
        pytest.skip("one PostgreSQL database has one queue of a job")
    assert "Sent 12 tasks" in home.run("copy_queue", "--to", other)
    work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 12}
    assert "12 tasks done here" in home.run("launch_worker", "--queue-url", other)  # where the ledger is, too
    home.run("monitor", "--queue-url", other, "--job-id", name)
    status = json.loads(home.run("status", "--json"))
    assert (status["counts"]["succeeded"], status["duplicates"]) == (12, 12)


def test_a_worker_without_a_queue_reports_what_to_do(home):
    said = home.run("launch_worker", code=1)
    assert "does not exist" in said
    assert "poe insert_tasks" in said
    assert "Traceback" not in said


def test_a_queue_of_another_job_is_refused(home, service, name, tmp_path):
    insert(home, range(3))
    other = Place(tmp_path / "other", service, name, task=TASK)
    env = other.folder / "config" / "task.env"
    env.write_text(env.read_text().replace(f"JOB_ID={name}", "JOB_ID=another"))
    said = other.run("launch_worker", code=1)
    assert "Traceback" not in said
    assert "job" in said


def test_a_service_that_is_away_for_a_while_is_waited_for(home, service):
    (home.folder / "task.py").write_text("import time\ndef run_task(n):\n    time.sleep(0.05)\n    return n * n")
    insert(home, range(100))
    worker = home.start("launch_worker", "--slots", "2")
    monitor = home.start("monitor")
    time.sleep(1.5)
    service.pause()
    time.sleep(6)
    service.resume()
    assert monitor.wait(90) == 0, home.text()
    assert worker.wait(60) == 0, home.text()
    assert counts(home) == {"succeeded": 100}
    assert "Traceback" not in home.text()


def slow_job(home, numbers):
    (home.folder / "task.py").write_text("import time\ndef run_task(n):\n    time.sleep(0.05)\n    return n * n")
    insert(home, numbers)
    worker = home.start("launch_worker", "--slots", "2")
    time.sleep(2.5)
    return worker


def test_a_queue_deleted_during_the_job_is_reported_and_release_sends_its_tasks_again(home, service, name):
    worker = slow_job(home, range(150))
    transport = service.transport(name)
    transport.delete()
    transport.close()
    assert worker.wait(60) == 1, home.text()
    assert "does not exist" in home.text()
    assert "Traceback" not in home.text()
    service.advance(61)  # until when SQS refuses a new queue of that name
    home.run("release")
    assert work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 150}


EXPIRED = {"sqs": {"code": "ExpiredToken", "status": 403}, "pubsub": {"code": "UNAUTHENTICATED"}}


@pytest.mark.parametrize("service", EXPIRED, indirect=True)
def test_credentials_that_expire_during_the_job_are_reported_and_nothing_is_lost(home, service, name):
    worker = slow_job(home, range(150))
    service.fault("*", **EXPIRED["sqs" if "sqs" in service.module else "pubsub"], times=None)
    assert worker.wait(60) == 1, home.text()
    service.clear_faults()
    said = home.text()
    assert "credentials" in said
    assert "expired" in said
    assert "Traceback" not in said
    service.advance(31)
    assert work(home)
    home.run("monitor")
    assert counts(home) == {"succeeded": 150}
