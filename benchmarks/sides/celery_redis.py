"""celery with a Redis of its own: prefork, two processes, messages and results in Redis, both over a unix socket.

Redis writes its log to disk every second (``appendonly yes``), the weakest setting that survives the death of Redis. The worker runs
as its guide advises for short tasks (prefetch multiplier above 1, here 64; no gossip, mingle or heartbeat) and acknowledges late, so that
a killed worker's tasks come back. Results are kept. Measured: from the start of the first task to the instant when all results are in
Redis (looked at every 10 ms). Not measured: starting Redis and the worker; sending the tasks one by one over one connection, timed
apart.
"""

import os
import shutil
import socket
import sys
import time
from importlib.util import find_spec

from measure import begun_at, started, wait_until

NAME = "celery, Redis"
KEEPS = "results (Redis, log synced each second)"
DISTRIBUTION = "celery"
SIZES = {"noop": 6000, "work": 800, "large": 200}
INSERTED = None

APP = """\
import celery
import tasks

app = celery.Celery("bench", broker="redis+socket://{socket}?virtual_host=0", backend="redis+socket://{socket}?virtual_host=1")
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=64,
    worker_hijack_root_logger=False,
    task_serializer="json",
    result_serializer="json",
    broker_connection_retry_on_startup=True,
)
noop, work, large = (app.task(function, name=function.__name__) for function in (tasks.noop, tasks.work, tasks.large))
"""


def missing():
    if not find_spec("celery") or not find_spec("redis"):
        return "celery or its Redis client is not installed (uv sync --group benchmarks)"
    return None if shutil.which("redis-server") else "redis-server is not installed (apt-get install redis-server)"


def run(kind, n, folder):
    global INSERTED
    import redis

    path = folder / "redis.sock"
    options = {
        "port": "0",
        "unixsocket": path,
        "dir": folder,
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
    }
    server = ["redis-server", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]
    (folder / "app.py").write_text(APP.format(socket=path))
    sys.path.insert(0, str(folder))
    begun = folder / "begun"
    with started(server, folder):
        wait_until(lambda: _listens(path), within=20)
        import app

        task = getattr(app, kind)
        start = time.perf_counter()
        for number in range(n):
            task.delay(number)
        INSERTED = time.perf_counter() - start
        results = redis.Redis(unix_socket_path=str(path), db=1)
        flags = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "error"]
        worker = [sys.executable, "-m", "celery", "-A", "app", "worker", "-P", "prefork", "-c", "2", *flags]
        where = f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"
        with started(
            worker, folder, log=folder / "worker.log", PYTHONPATH=where, BENCH_BEGUN=str(begun), C_FORCE_ROOT="1"
        ):
            wait_until(lambda: results.dbsize() >= n)
            ended_at = time.time()
        done = sum(1 for _ in results.scan_iter("celery-task-meta-*", count=1000))
        if done != n:
            raise RuntimeError(f"{done} of {n} results are there")
    return ended_at - begun_at(begun)


def _listens(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0
