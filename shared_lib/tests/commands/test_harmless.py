"""Nothing that a task, a table or a machine says reaches the terminal or a log as a control character."""

import json
import logging
import sqlite3
from contextlib import closing

import pytest
from taskfleet.rms.echo import Echo
from taskfleet.tasks import Finished, FinishReport, Lease, Outcome
from taskfleet.terminal.logs import configure_logging

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\x7f\x00"
FORBIDDEN = [chr(n) for n in (*range(32), *range(127, 160)) if chr(n) not in "\n\t"] + ["\u202e", "\u2066"]
TASK = f"""
filter_tasks = None
def run_task(num1, num2, way="add"):
    print({HOSTILE!r})
    if way == "raise":
        raise ValueError({HOSTILE!r} + "\\nJOB COMPLETE")
    return {{{HOSTILE!r}: {HOSTILE!r}}}
"""
REPORTS = [
    "status",
    "tasks",
    "tasks --json",
    "task t0",
    "task t0 --json",
    "task t1",
    "task t1 --json",
    "explain",
    "explain t1",
    "show_queue",
    "machines --all",
    "machines --all --detail",
    "check_ledger",
    "results -o out.csv",
]


def found(printed):
    return sorted({one for one in FORBIDDEN if one in printed.out + printed.err})


@pytest.fixture
def hostile(project, poe):
    """A job whose tasks, results, reasons, output, hosts and machines are hostile."""
    (project / "task.py").write_text(TASK)
    rows = [{"task_id": f"t{i}", "data": {"num1": i, "num2": 1, "way": way}} for i, way in enumerate(["add", "raise"])]
    (project / "tasks.json").write_text(json.dumps(rows))
    assert poe("insert_tasks").code == 0
    answer = poe("launch_worker", "--verbose")
    assert answer.code == 0
    assert found(answer) == []
    with closing(sqlite3.connect(project / "jobs" / "sums.db", isolation_level=None)) as ledger:
        ledger.execute("UPDATE worker SET hostname = ?, version = ?, ended_at = NULL", (HOSTILE, HOSTILE))
        ledger.execute(
            "INSERT INTO machine (token, order_token, instance_id, provider, zone, instance_type, market, usd_per_hour, slots, cpus, "
            "lifetime_seconds, ordered_at, started_at, ended_at, end_reason, detail) "
            "VALUES ('m', 'o', ?, 'local', ?, ?, 'spot', 1, 1, 1, 10, 1, 1, 2, 'launch_error', ?)",
            (HOSTILE, HOSTILE, HOSTILE, HOSTILE + "\nforged"),
        )
    return project


@pytest.mark.parametrize("command", REPORTS)
def test_a_report_has_no_control_characters(hostile, poe, command):
    answer = poe(*command.split())
    assert found(answer) == []
    assert answer.code == 0, answer.err
    assert not [line for line in answer.out.splitlines() if line.startswith(("forged", "JOB COMPLETE"))]


def test_json_has_what_the_task_said(hostile, poe):
    attempt = json.loads(poe("task", "t0", "--json").out)["attempts"][0]
    assert attempt["result"] == {HOSTILE: HOSTILE}
    assert HOSTILE in attempt["output"]
    assert HOSTILE in json.loads(poe("task", "t1", "--json").out)["attempts"][0]["error"]


def test_an_error_quotes_what_it_is_about_harmlessly(hostile, poe):
    answer = poe("task", HOSTILE)
    assert answer.code == 1
    assert found(answer) == []
    with closing(sqlite3.connect(hostile / "jobs" / "sums.db", isolation_level=None)) as ledger:
        ledger.execute("UPDATE job SET project = ?", (HOSTILE,))
    answer = poe("status")
    assert answer.code == 1
    assert found(answer) == []


def test_records_of_the_log_are_harmless_and_cannot_be_forged(tmp_path, capsys):
    configure_logging(0, tmp_path / "log")
    logger = logging.getLogger("taskfleet.test")
    try:
        raise ValueError(HOSTILE + "\nERROR forged")
    except ValueError:
        logger.warning("A service said %s\nERROR forged", HOSTILE, exc_info=True)
    configure_logging(0, None)
    printed = capsys.readouterr()
    assert found(printed) == []
    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert not [one for one in FORBIDDEN if one in text]
    for lines in (printed.err.splitlines(), text.splitlines()):
        assert not [line for line in lines if line.startswith("ERROR")]


def test_the_events_of_hostile_tasks_can_be_written_and_read(hostile, poe, project):
    (project / "task.py").write_text(
        "def run_task(num1, num2, way='add'): raise ValueError('\\ud800\\u202e\\x9b')\nfilter_tasks = None\n"
    )
    (project / "config" / "task.env").write_text(
        "JOB_ID=others\nSLOTS=1\nRETRIES_ON_EXCEPTION=0\nEVENT_FILE=events.jsonl\n"
    )
    assert poe("insert_tasks").code == 0
    assert poe("launch_worker").code == 0
    text = (project / "events.jsonl").read_bytes().decode("utf-8")
    assert not [one for one in FORBIDDEN if one in text]
    assert len([line for line in text.splitlines() if "\u202e" in json.loads(line)["exception"]]) == 2


def test_the_echo_of_tasks_is_harmless(capsys):
    lease = Lease(seq=1, attempt=1, task_id="t", data="{}")
    ended = Finished(1, 1, Outcome.EXCEPTION, 0.0, 1.0, error=HOSTILE, output=HOSTILE)
    Echo().recorded([lease], [ended], FinishReport())
    printed = capsys.readouterr()
    assert printed.out
    assert printed.err
    assert found(printed) == []
