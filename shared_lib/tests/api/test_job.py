"""``Job``: what the commands do, from Python, without a command line, exit codes or standard output."""

import json
import os

import pytest
from taskfleet import Job, TaskfleetError
from taskfleet.errors import CommandError, LedgerError, SettingsError
from taskfleet.tasks import State

TASK = """
def run_task(num1, num2):
    if num1 < 0:
        raise ValueError("negative")
    return num1 + num2
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a task function and nothing else; the current one."""
    (tmp_path / "sums.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(folder):
    """A job without a file of settings."""
    return Job.open("sums", task_function="sums:run_task", slots=2, retries_on_exception=0)


def rows(*numbers):
    return [{"task_id": f"t{n}", "data": {"num1": n, "num2": 1}} for n in numbers]


def run_apart(job):
    """Work in a child, since a worker wants a process of its own."""
    child = os.fork()
    if not child:
        report = job.work()
        os._exit(7 if report.was_stopped else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_opening_creates_nothing(folder, job):
    assert [one.name for one in folder.iterdir()] == ["sums.py"]
    assert repr(job) == f"Job('sums', ledger='{job.configuration.ledger_path}')"
    with pytest.raises(LedgerError):
        job.status()
    assert [one.name for one in folder.iterdir()] == ["sums.py"]


def test_waiting_ends_with_the_last_task(job):
    job.insert(rows(1, 2, -3))
    child = os.fork()
    if not child:
        os._exit(7 if job.work(stop_fn=lambda: False, after_fn=lambda task: None).was_stopped else 0)
    job.block_until_empty(interval_sec=0.01)
    counts = job.status().counts
    assert (counts[State.SUCCEEDED], counts[State.FAILED]) == (2, 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    job.block_until_empty(interval_sec=3600)
    job.rezero()
    assert job.status().since_rezero.completed == 0


def test_a_whole_job(job, folder, capfd):
    report = job.insert(rows(1, 2, -3))
    assert (report.added, report.already_there, report.sent) == (3, 0, 0)
    assert job.insert(rows(1, 2)).already_there == 2
    run_apart(job)
    status = job.status()
    assert (status.counts[State.SUCCEEDED], status.counts[State.FAILED]) == (2, 1)
    assert [(one.task_id, one.reason) for one in job.tasks(state="failed")] == [("t-3", "ValueError: negative")]
    assert len(job.tasks(limit=2)) == 2
    assert job.task("t1").attempts[0].result == "2"
    assert "is not retried" in job.explain("t-3")[0]
    assert job.retry("t-3", "t1", "unknown") == 1
    assert job.queue()["ledger"] == {"waiting": 0, "pending": 1, "running": 0}
    assert job.purge() == 1
    assert job.retry(killed=True) == 1
    assert job.release() == 0
    assert job.write_results(folder / "results.json") == 3
    by_id = {row["task_id"]: row.get("result") for row in json.loads((folder / "results.json").read_text())}
    assert by_id == {"t1": 2, "t2": 3, "t-3": None}
    assert capfd.readouterr().out == ""
    job.delete()
    assert not job.configuration.ledger_path.exists()


def test_a_plan_and_machines_without_any(job):
    job.insert(rows(1, 2))
    plan = job.plan()
    assert plan.choice.count >= 1
    assert plan.estimate.tasks == 2
    assert job.machines().rows == []
    assert set(job.teardown().values()) == {0}


def test_keywords_come_before_the_environment_and_the_file(folder, monkeypatch):
    (folder / "config").mkdir()
    (folder / "config" / "task.env").write_text("JOB_ID=in-file\nSLOTS=3\nMAX_TASKS=9\nIDLE_SECONDS=5\n")
    monkeypatch.setenv("SLOTS", "4")
    job = Job.open(max_tasks=None, idle_seconds=6)
    settings, places = job.configuration.settings, job.configuration.places
    assert (job.job_id, settings.slots, settings.max_tasks, settings.idle_seconds) == ("in-file", 4, None, 6)
    assert places["IDLE_SECONDS"] == "the keyword idle_seconds"
    assert places["SLOTS"] == "the environment"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slot": 4}, "Unknown setting 'slot'. Did you mean slots?"),
        ({"slots": -1}, "the keyword slots: SLOTS='-1' is invalid"),
        ({"job_id": "a b"}, "the keyword job_id: JOB_ID='a b' is invalid"),
    ],
)
def test_a_wrong_setting_is_one_message(folder, settings, message):
    with pytest.raises(SettingsError) as caught:
        Job.open(**settings)
    assert message in str(caught.value)
    assert isinstance(caught.value, TaskfleetError)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda job: job.tasks(state="finished"), "Unknown state 'finished'. Choose waiting, pending, running"),
        (lambda job: job.retry(kinds=["crash"]), "Unknown kind 'crash'. Choose exception, timeout, exit"),
    ],
)
def test_a_wrong_word_is_one_message(job, action, message):
    job.insert(rows(1))
    with pytest.raises(SettingsError) as caught:
        action(job)
    assert message in str(caught.value)


def test_mistakes_raise_and_print_nothing(job, capfd):
    job.insert(rows(1))
    with pytest.raises(CommandError, match="has no task 'x'"):
        job.task("x")
    with pytest.raises(CommandError, match="has no event queue"):
        job.monitor()
    with pytest.raises(CommandError, match="already"):
        job.move("ledger")
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
