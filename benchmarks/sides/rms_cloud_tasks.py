"""rms-cloud-tasks, its worker on a local task file: ``--task-file … --num-simultaneous-tasks 2 --event-log-to-file``.

It starts an interpreter for each task and writes events, results among them, to a file. Measured: from the start of the first task to the
end of the worker's process. Not measured: starting the worker. The task file is what is inserted; nothing is timed for it.
"""

import json
import sys
import time
from importlib.util import find_spec

import measure

NAME = "rms-cloud-tasks, task file"
KEEPS = "events (a file)"
DISTRIBUTION = "rms-cloud-tasks"
SIZES = {"noop": 24, "work": 24, "large": 24}
INSERTED = None

WORKER = """\
import asyncio
import sys

from cloud_tasks.worker import Worker

import tasks


def process_task(task_id, task_data, worker_data):
    return False, tasks.KINDS[task_data["kind"]](task_data["number"])


if __name__ == "__main__":
    asyncio.run(Worker(process_task, args=sys.argv[1:]).start())
"""


def missing():
    return None if find_spec("cloud_tasks") else "rms-cloud-tasks is not installed (uv sync --group benchmarks)"


def run(kind, n, folder):
    (folder / "worker.py").write_text(WORKER)
    rows = [{"task_id": f"task-{number}", "data": {"kind": kind, "number": number}} for number in range(n)]
    (folder / "tasks.json").write_text(json.dumps(rows))
    events, begun = folder / "events.log", folder / "begun"
    flags = ["--task-file", "tasks.json", "--num-simultaneous-tasks", "2", "--job-id", "bench", "--no-is-spot"]
    command = [sys.executable, "worker.py", *flags, "--event-log-to-file", "--event-log-file", str(events)]
    measure.run(command, folder, BENCH_BEGUN=str(begun))
    ended_at = time.time()
    done = sum('"task_completed"' in line for line in events.read_text().splitlines())
    if done != n:
        raise RuntimeError(f"{done} of {n} tasks were completed")
    return ended_at - measure.begun_at(begun)
