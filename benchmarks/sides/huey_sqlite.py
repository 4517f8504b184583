"""huey with SqliteHuey: its consumer with two processes (``-k process -w 2``), results kept, periodic tasks off.

Its defaults are the fast ones: write-ahead log; the library's own synchronous setting (FULL) is lowered to NORMAL here, as ours has it.
Measured: from the start of the first task to the instant when the queue is empty and all results are in the file, looked at every 10 ms
by one indexed query. Not measured: starting the consumer; ``enqueue`` task by task, the only way it offers, timed apart.
"""

import os
import sqlite3
import sys
import time
from contextlib import closing
from importlib.util import find_spec

from measure import begun_at, started, wait_until

NAME = "huey, SQLite as ours has it"
KEEPS = "results (SQLite)"
DISTRIBUTION = "huey"
SIZES = {"noop": 10_000, "work": 1000, "large": 400}
INSERTED = None

APP = """\
from huey import Huey
from huey.storage import SqliteStorage
import tasks

class Storage(SqliteStorage):
    def _create_connection(self):
        connection = super()._create_connection()
        connection.execute("pragma synchronous=LEVEL")
        return connection

app = Huey("bench", storage_class=Storage, filename="huey.db", timeout=60)
noop, work, large = (app.task()(function) for function in (tasks.noop, tasks.work, tasks.large))
"""


def missing():
    return None if find_spec("huey") else "huey is not installed (uv sync --group benchmarks)"


def run(kind, n, folder, synchronous="normal"):
    global INSERTED
    (folder / "app.py").write_text(APP.replace("LEVEL", synchronous))
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    import app

    task = getattr(app, kind)
    start = time.perf_counter()
    for number in range(n):
        task(number)
    INSERTED = time.perf_counter() - start
    app.app.storage.close()
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "app.app", "-k", "process", "-w", "2", "-n", "-q"]
    begun = folder / "begun"
    where = f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"
    connection = sqlite3.connect(folder / "huey.db", timeout=60)
    with started(command, folder, PYTHONPATH=where, BENCH_BEGUN=str(begun)), closing(connection):
        wait_until(lambda: connection.execute("SELECT NOT EXISTS (SELECT 1 FROM task)").fetchone()[0])
        wait_until(lambda: connection.execute("SELECT count(*) FROM kv").fetchone()[0] >= n)
        ended_at = time.time()
    return ended_at - begun_at(begun)
