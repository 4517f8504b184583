"""A termination notice, simulated: tasks are told, nothing new begins, what has not begun goes back at once."""

import json
import subprocess
import sys
import time

import pytest
from taskfleet.tasks import Outcome, State

TASK = """
import time
def run_task(n, context):
    for _ in range(200):
        time.sleep(0.05)
        if context.terminating and n == 0:
            return "saved"
"""


@pytest.mark.parametrize("start_method", ["auto", "spawn", "forkserver"])
def test_a_notice_reaches_the_tasks_and_costs_none_of_them_a_try(tmp_path, start_method):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "task.env").write_text(
        f"JOB_ID=spot\nEVENT_FILE=events.jsonl\nRETRIES_ON_LOST=0\nSLOTS=2\nSTART_METHOD={start_method}\n"
    )
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "tasks.json").write_text(json.dumps([{"task_id": str(n), "data": {"n": n}} for n in range(6)]))

    def poe(*words):
        done = subprocess.run(
            [sys.executable, "-m", "taskfleet", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done

    poe("insert_tasks")
    began = time.monotonic()
    worked = poe("launch_worker", "--simulate-spot-termination-after", "1", "--simulate-spot-termination-delay", "1")
    assert time.monotonic() - began < 8, "the tasks were not ended by the notice"
    assert "Spot termination notice (simulated): 2 running tasks have 1 s to finish." in worked.stderr
    assert "Spot terminations: 1" in worked.stdout

    status = json.loads(poe("status", "--json").stdout)
    assert {state: n for state, n in status["counts"].items() if n} == {State.SUCCEEDED.word: 1, State.PENDING.word: 5}
    assert status["spot_terminations"] == 1
    assert json.loads(poe("task", "0", "--json").stdout)["attempts"][0]["result"] == "saved"
    assert [a["outcome"] for a in json.loads(poe("task", "1", "--json").stdout)["attempts"]] == [
        Outcome.INTERRUPTED.word
    ]
    assert json.loads(poe("task", "5", "--json").stdout)["attempts"] == []
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["event_type"] for event in events] == ["spot_termination", "task_completed"]
