"""Termination notices of metadata services: tasks see them, no task starts any more, unfinished tasks are given back in time."""

import re
import signal
import time

import pytest
from taskfleet.machines.slurm.script import END_VARIABLE
from taskfleet.tasks import Outcome, State
from taskfleet.worker.limits import stopped_by

from shared_lib.tests.services.metadata import Metadata

TASK = """
import time
def run_task(n, context):
    note(f"began {n}")
    while not context.terminating or n == 1:
        time.sleep(0.02)
    return "saved"
"""
#: How far apart two clocks' readings of the same moment may be on a busy machine.
SLACK_SECONDS = 20


@pytest.fixture
def metadata():
    with Metadata() as service:
        yield service


def provider(name, service):
    return service.environment() | {"TASKFLEET_PROVIDER": name}


def started(project, environment, tasks=6, **settings):
    project.write(TASK, RETRIES_ON_LOST=0, **settings).insert([{"n": n} for n in range(tasks)])
    worker = project.start(environment=environment)
    project.until_noted("began 0", "began 1")
    return worker


def test_notice_of_aws_ends_the_work_in_the_time_it_leaves(project, metadata):
    worker = started(project, provider("aws", metadata), EVENT_FILE="events.jsonl")
    metadata.notice(seconds=14)
    noticed_at = time.monotonic()
    worker.wait()
    said = re.search(r"Spot termination notice: 2 running tasks have ([\d.]+) s to finish\.", worker.text)
    assert said, worker.text
    assert 0 <= float(said[1]) <= 9  # what handing back takes is kept of the fourteen
    assert time.monotonic() - noticed_at < 14 + SLACK_SECONDS
    assert project.result("t0") == "saved"
    assert [one.outcome for one in project.task("t1").attempts] == [Outcome.INTERRUPTED]
    assert project.counts() == {State.SUCCEEDED.word: 1, State.PENDING.word: 5}
    assert set(project.noted()) == {"began 0", "began 1"}
    ended = project.ask(lambda database: database.rows("SELECT end_reason FROM worker"))
    assert list(ended) == [("preempted",)]
    assert '"spot_termination"' in (project.folder / "events.jsonl").read_text()


def test_a_google_preemption_is_noticed_at_once(project, metadata):
    project.write(TASK).insert([{"n": n} for n in (0, 2, 3, 4)])
    worker = project.start(environment=provider("gcp", metadata))
    project.until_noted("began 0", "began 2")
    time.sleep(0.5)
    metadata.notice()
    worker.wait()
    assert "Spot termination notice: 2 running tasks have 25 s to finish." in worker.text
    assert project.counts() == {State.SUCCEEDED.word: 2, State.PENDING.word: 2}


@pytest.mark.parametrize("event", ["MIGRATE_ON_HOST_MAINTENANCE", "TERMINATE_ON_HOST_MAINTENANCE"])
def test_maintenance_by_google_stops_the_work_only_if_the_machine_ends(project, metadata, event):
    project.write(TASK).insert([{"n": n} for n in (0, 2, 3)])
    worker = project.start(environment=provider("gcp", metadata))
    project.until_noted("began 0", "began 2")
    metadata.maintenance(event)
    if event.startswith("MIGRATE"):
        project.until(lambda: "about to be migrated to another host" in worker.text, worker.text)
        assert worker.process.poll() is None
        metadata.notice()
        worker.wait()
        assert "Spot termination notice" in worker.text
    else:
        worker.wait()
        assert "Notice of host maintenance that ends the machine: 2 running tasks have 55 s to finish." in worker.text


def test_an_expired_token_is_renewed_and_a_rebalance_recommendation_is_only_reported(project, metadata):
    worker = started(project, provider("aws", metadata), tasks=2)
    project.until(lambda: metadata.requests()["/latest/meta-data/spot/instance-action"])
    metadata.end_tokens()
    metadata.recommend_rebalance()
    project.until(lambda: "AWS sent a rebalance recommendation" in worker.text)
    assert worker.process.poll() is None
    metadata.notice(seconds=10)
    worker.wait()
    assert worker.text.count("AWS sent a rebalance") == 1
    assert metadata.requests()["/latest/api/token"] == 2


def test_a_notice_cuts_short_the_grace_of_a_stop(project, metadata):
    worker = started(project, provider("aws", metadata), tasks=2, SHUTDOWN_GRACE_SECONDS=300)
    worker.kill(signal.SIGTERM)
    project.until(lambda: "Stopping: 2 running tasks have 300 s" in worker.text)
    metadata.notice(seconds=10)
    worker.wait(code=130)
    assert re.search(r"Spot termination notice: at most [\d.]+ s are left\.", worker.text)
    assert project.result("t0") == "saved"


@pytest.mark.parametrize("trouble", ["nobody", "silence", "errors"])
@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_a_service_that_does_not_answer_disturbs_nothing(project, metadata, name, trouble):
    project.write(
        """
        def run_task(n):
            if n < 2:
                wait_for("gate")
        """
    ).insert([{"n": n} for n in range(200)])
    environment = provider(name, metadata)
    match trouble:
        case "nobody":
            metadata.stop()
        case "silence":
            metadata.pause()
        case "errors":
            metadata.fault("*", status=503, times=None)
    worker = project.start("--slots", 3, environment=environment)
    project.until(lambda: project.counts().get(State.SUCCEEDED.word) == 198)
    project.until(lambda: "a termination notice would be missed" in worker.text)
    project.open_gate("gate")
    opened_at = time.monotonic()
    worker.wait()
    assert time.monotonic() - opened_at < SLACK_SECONDS  # the end waits for no answer
    assert project.counts() == {State.SUCCEEDED.word: 200}


def test_no_metadata_is_requested_outside_a_pool_machine(project, metadata):
    project.write("def run_task(n): pass").insert([{"n": 1}])
    project.work(environment=metadata.environment())
    assert not [path for path in metadata.requests() if path.startswith("/")]


@pytest.mark.parametrize("word", ["retry", "kill"])
def test_a_task_that_the_time_limit_of_a_batch_job_stops_is_retried_or_killed_and_loses_no_retry(project, word):
    project.write(
        """
        import time
        def run_task(n):
            note(f"began {n}")
            time.sleep(2.0 if n == 0 else 1000.0)
        """,
        RETRIES_ON_LOST=0,
        SLOTS=1,
        ON_TIME_LIMIT=word,
    ).insert([{"n": n} for n in range(3)])
    limit = {"TASKFLEET_PROVIDER": "slurm", END_VARIABLE: str(time.time() + 20), "TASKFLEET_MACHINE": "7_1"}
    worker = project.start(environment=limit)
    worker.wait()
    assert "The job's time limit is near: 1 running task" in worker.text
    assert project.noted() == {"began 0": 1, "began 1": 1}  # the third one was not begun
    last = project.task("t1").attempts[-1]
    assert last.outcome is (Outcome.KILLED if word == "kill" else Outcome.INTERRUPTED)
    left = {State.KILLED.word: 1, State.PENDING.word: 1} if word == "kill" else {State.PENDING.word: 2}
    assert project.counts() == {State.SUCCEEDED.word: 1, **left}
    if word == "kill":
        explained = project.start("t1", command=("-m", "taskfleet", "explain"))
        explained.wait()
        assert "was killed when its machine reached its time limit" in explained.text


def test_a_task_that_had_nearly_the_whole_lifetime_of_its_machine_fails_unless_it_is_killed():
    """It would run for ever otherwise, on one machine after the other."""
    began_at = time.monotonic() - 55
    assert stopped_by(began_at, 60.0, kills=False)[0] is Outcome.TIMEOUT
    assert stopped_by(began_at, 90.0, kills=False)[0] is Outcome.INTERRUPTED
    assert stopped_by(began_at, None, kills=True)[0] is Outcome.INTERRUPTED
    assert stopped_by(began_at, 90.0, kills=True)[0] is Outcome.KILLED
