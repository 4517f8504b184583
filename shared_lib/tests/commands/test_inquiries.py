"""poe status, tasks, task, results and settings."""

import json
import platform

import pyarrow.feather
import pytest
from taskfleet.code_versions.packages import installed_packages

REASON = "Exit: the task's process ended with code 3 before the function returned"
DOCUMENTED = {
    "queue_url": type(None),
    "unsent": int,
    "paused": bool,
    "cancelled": int,
    "managers_without_workers": dict,
    "managers_at_their_limit": dict,
    "job_id": str,
    "total": int,
    "counts": dict,
    "failures": dict,
    "failure_causes": list,
    "began_at": float,
    "ended_at": float,
    "rate_per_second": float,
    "eta_seconds": float,
    "durations_seconds": dict,
    "workers": list,
    "duplicates": int,
    "retries": int,
    "lost": int,
    "spot_terminations": int,
    "since_rezero": type(None),
    "costs": type(None),
    "booting": type(None),
    "functions": type(None),
}


@pytest.mark.parametrize(
    "command", ["status", "tasks", "task t0", "results -o x.csv", "retry --failed", "release", "purge_queue --yes"]
)
def test_a_job_without_a_ledger_says_to_insert_first(poe, command):
    answer = poe(*command.split())
    assert answer.code == 1
    assert "has no ledger yet" in answer.err
    assert "poe insert_tasks" in answer.err


def test_the_status_of_a_worked_job(poe, trouble):
    status = json.loads(poe("status", "--json").out)
    assert {key: type(value) for key, value in status.items()} == DOCUMENTED
    assert status["counts"] == {"waiting": 0, "pending": 0, "running": 0, "prefetched": 0} | {
        "succeeded": 2,
        "failed": 2,
        "killed": 0,
    }
    assert status["failures"] == {"exception": 1, "timeout": 0, "exit": 1, "memory": 0, "lost": 0, "upstream": 0}
    assert status["total"] == 4
    assert status["eta_seconds"] == 0
    assert status["durations_seconds"]["n"] == 2
    assert status["workers"] == []


def test_the_status_for_people_shows_an_example_of_each_failure(poe, trouble):
    out = poe("status").out
    assert "1 exception   for example t1: ValueError: invalid input" in out
    assert "1 exit        for example t2: Exit: the task's process ended with code 3" in out
    assert "Next: uv run poe tasks --state failed " in out


def test_watching_a_job_that_is_done_ends(poe, trouble):
    assert poe("status", "--watch", "0.01").out.count("Job sums") == 1


def test_failed_tasks_are_listed_with_the_reason(poe, trouble):
    out = poe("tasks", "--state", "failed").out
    assert [line.split() for line in out.splitlines()[1:3]] == [
        ["t1", "failed", "(exception)", "1", "ValueError:", "invalid", "input"],
        ["t2", "failed", "(exit)", "1", *REASON.split()],
    ]
    assert "t2" not in poe("tasks", "--kind", "exception").out
    lines = [json.loads(line) for line in poe("tasks", "--state", "succeeded", "--json").out.splitlines()]
    assert [line["task_id"] for line in lines] == ["t0", "t3"]


def test_a_list_that_is_cut_says_how_many_more_there_are(poe):
    poe("insert_tasks")
    assert "… and 3 more; --limit 0 lists all." in poe("tasks", "--limit", "1").out
    assert "more" not in poe("tasks", "--limit", "0").out


def test_one_task_whole(poe, trouble):
    out = poe("task", "t1").out
    assert out.startswith('Task t1 (row 2 of the job): failed (exception)\nData: {"num1":1,"num2":10,"way":"raise"}')
    assert "Attempt 1: exception" in out
    assert 'raise ValueError("invalid input")' in out
    assert "taskfleet/worker" not in out
    assert "  Output: about to raise" in out
    record = json.loads(poe("task", "t0", "--json").out)
    assert record["attempts"][0]["result"] == {"sum": 10}
    assert record["attempts"][0]["packages"] == installed_packages()
    assert f"Python {platform.python_version()} with {len(installed_packages()) - 1} packages" in out


def test_an_unknown_task_is_an_error(poe, trouble):
    answer = poe("task", "t9")
    assert (answer.code, "no task 't9'" in answer.err) == (1, True)


def test_results_join_the_table(project, poe, trouble):
    out = poe("results", "-o", "results.feather").out
    assert "Wrote 4 rows to results.feather: 2 succeeded, 2 failed." in out
    table = pyarrow.feather.read_table(project / "results.feather").to_pydict()
    assert table["task_id"] == ["t0", "t1", "t2", "t3"]
    assert table["num1"] == [0, 1, 2, 3]
    assert table["result_sum"] == [10, None, None, 13]
    assert table["state"] == ["succeeded", "failed", "failed", "succeeded"]
    assert table["failure_kind"] == [None, "exception", "exit", None]
    assert table["error"][1].startswith("ValueError: invalid input\n")


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json", "jsonl"])
def test_results_in_the_other_formats(project, poe, trouble, suffix):
    assert poe("results", "-o", f"results.{suffix}").code == 0
    assert (project / f"results.{suffix}").stat().st_size > 0


def test_results_before_the_end_say_what_is_missing(poe):
    poe("insert_tasks")
    assert "4 tasks have not ended yet" in poe("results", "-o", "results.csv").out


def test_results_in_an_unknown_format_are_refused(poe, trouble):
    answer = poe("results", "-o", "results.xls")
    assert answer.code == 1
    assert ".feather" in answer.err


@pytest.mark.parametrize("name", ["results.feather", "results.jsonl"])
def test_formulas_are_escaped_in_csv_only_and_the_option_is_refused_elsewhere(project, poe, trouble, name):
    answer = poe("results", "-o", name, "--escape-formulas")
    assert answer.code == 2
    assert answer.err.startswith("error: --escape-formulas is for CSV files only: ")
    assert not (project / name).exists()
    assert poe("results", "-o", "results.CSV", "--escape-formulas").code == 0


def test_settings_show_where_each_value_comes_from(poe, monkeypatch):
    monkeypatch.setenv("MAX_RUNTIME_SECONDS", "5")
    out = poe("settings", "--output-path", "gs://bucket").out
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert rows["MAX_RUNTIME_SECONDS"] == "5 the environment"
    assert rows["OUTPUT_PATH"] == "gs://bucket the command line (--output-path)"
    assert rows["LEASE_SECONDS"] == "30 default"
    assert rows["JOB_ID"].startswith("sums ")
    assert rows["JOB_ID"].endswith("task.env, line 1")


def test_every_fault_of_the_settings_is_said_at_once(project, poe):
    (project / "config" / "task.env").write_text("JOB_ID=sums\nSLOTZ=3\nLEASE_SECONDS=soon\n")
    answer = poe("status", "--job-id", "no spaces")
    assert answer.code == 2
    for part in ("unknown setting SLOTZ. Did you mean SLOTS?", "LEASE_SECONDS='soon'", "JOB_ID='no spaces'"):
        assert part in answer.err
