"""A simulated termination notice: tasks see it, no task starts any more, tasks that have not started are given back at once."""

import json
import subprocess
import sys

import pytest
from taskfleet.tasks import Outcome, State

TASK = """
import time
def run_task(n, context):
    note(f"began {n}")
    while n != 0 or not context.terminating:
        time.sleep(0.02)
    return "saved"
"""

#: The supervisor's clock leaps by an hour when the test opens a gate: tasks have begun when the notice comes, however slow the machine is.
LEAP = """
import os, sys
if "launch_worker" in sys.orig_argv:
    import time, taskfleet.worker.shutdown as shutdown
    class Leaping:
        time = time.time
        def monotonic():
            return time.monotonic() + 3600 * os.path.exists(os.path.join(os.environ["GATES"], "an hour later"))
    shutdown.time = Leaping
"""


@pytest.mark.parametrize("start_method", ["auto", "spawn", "forkserver"], indirect=True)
def test_a_notice_reaches_the_tasks_and_does_not_count_as_an_attempt(project):
    project.write(TASK, EVENT_FILE="events.jsonl", RETRIES_ON_LOST=0)
    project.insert({str(n): {"n": n} for n in range(6)})
    (project.folder / "sitecustomize.py").write_text(LEAP)
    simulated = ("--simulate-spot-termination-after", 3600, "--simulate-spot-termination-delay", 5)
    worker = project.start(*simulated, environment={"PYTHONPATH": str(project.folder)})
    project.until_noted("began 0", "began 1")
    project.open_gate("an hour later")
    worker.wait()
    assert "Spot termination notice (simulated): 2 running tasks have 5 s to finish." in worker.text
    assert "Spot terminations: 1" in worker.text
    assert set(project.noted()) == {"began 0", "began 1"}

    assert project.counts() == {State.SUCCEEDED.word: 1, State.PENDING.word: 5}
    assert project.result("0") == "saved"
    assert [attempt.outcome for attempt in project.task("1").attempts] == [Outcome.INTERRUPTED]
    assert project.task("5").attempts == ()
    events = [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()]
    assert [event["event_type"] for event in events] == ["spot_termination", "task_completed"]
    shown = subprocess.run(
        [sys.executable, "-m", "taskfleet", "status", "--json"], cwd=project.folder, capture_output=True, timeout=240
    )
    assert json.loads(shown.stdout)["spot_terminations"] == 1
