"""A script for rms-cloud-tasks as a worker of a service queue, which only its options describe."""

import json
import subprocess
import sys

from shared_lib.tests.queues.test_whole_jobs import PATIENCE_SECONDS, Place

SCRIPT = """
import asyncio, sys
from taskfleet.rms import Worker

def process_task(task_id, task_data, worker_data):
    known = [worker_data.provider, worker_data.queue_name, worker_data.event_log_to_queue, worker_data.event_log_queue_name]
    return False, [task_data["n"], *known]

if __name__ == "__main__":
    asyncio.run(Worker(process_task, args=sys.argv[1:]).start())
"""


def test_a_script_works_on_the_queue_of_its_options(tmp_path, running, name):
    service = running("sqs")
    with_ledger = Place(tmp_path / "here", service, name, task=SCRIPT, TASK_FUNCTION="task:process_task")
    (with_ledger.folder / "tasks.json").write_text(
        json.dumps([{"task_id": f"t{n}", "data": {"n": n}} for n in range(3)])
    )
    with_ledger.run("insert_tasks")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "my_worker.py").write_text(SCRIPT)
    words = ["--provider", "aws", "--job-id", name, "--queue-name", name, "--num-simultaneous-tasks", "2"]
    subprocess.run(
        [sys.executable, "my_worker.py", *words],
        cwd=elsewhere,
        env=with_ledger.environment | {"IDLE_SECONDS": "2"},
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    with_ledger.run("monitor")
    with_ledger.run("results", "-o", "results.jsonl")
    rows = [json.loads(line) for line in (with_ledger.folder / "results.jsonl").read_text().splitlines()]
    assert [row["result"] for row in rows] == [[n, "AWS", name, True, f"{name}-events"] for n in range(3)]
