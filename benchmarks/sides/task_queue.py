"""python-task-queue with its file queue (``fq://``): two processes that each poll, as ``ptq`` or a worker script does.

It keeps no results; ``large`` therefore writes its megabyte to a file of its own, which is what its users do. Completions are tallied, the
way it knows that it is done. Measured: from the start of the first task to the last completion (looked at every 10 ms). Not measured:
starting the processes; inserting in one call with one process, timed apart.
"""

import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from measure import begun_at, started, wait_until

NAME = "task-queue, files"
KEEPS = "a count"
DISTRIBUTION = "task-queue"
SIZES = {"noop": 4000, "work": 800, "large": 600}
INSERTED = None


def missing():
    return None if find_spec("taskqueue") else "task-queue is not installed (uv sync --group benchmarks)"


def run(kind, n, folder):
    global INSERTED
    from functools import partial

    from taskqueue import TaskQueue

    queue = TaskQueue(f"fq://{folder / 'queue'}", progress=False)
    queue.rezero()
    function = queueables()[kind]
    start = time.perf_counter()
    queue.insert((partial(function, number) for number in range(n)), total=n)
    INSERTED = time.perf_counter() - start
    begun, completions = folder / "begun", folder / "queue" / "completions"
    command = [sys.executable, Path(__file__), folder]
    with started(command, folder, BENCH_BEGUN=str(begun)), started(command, folder, BENCH_BEGUN=str(begun)):
        wait_until(lambda: completions.exists() and os.path.getsize(completions) >= n)
        ended_at = time.time()
    return ended_at - begun_at(begun)


def queueables():
    from taskqueue import queueable

    return {"noop": queueable(noop), "work": queueable(work), "large": queueable(large)}


def noop(number):
    import tasks

    tasks.noop(number)


def work(number):
    import tasks

    tasks.work(number)


def large(number):
    import tasks

    Path(f"result-{number}").write_text(tasks.large(number))


def _poll(folder):
    from taskqueue import TaskQueue

    queueables()
    TaskQueue(f"fq://{folder}/queue", progress=False).poll(lease_seconds=600, tally=True)


if __name__ == "__main__":
    sys.modules["sides.task_queue"] = sys.modules["__main__"]  # tasks name the module they were inserted from
    for _function in (noop, work, large):
        _function.__module__ = "sides.task_queue"
    _poll(sys.argv[1])
