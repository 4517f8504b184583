"""The local engine, used as a baked project uses it: a folder with ``task.py`` and ``config/task.env``, and the two commands."""

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from measure import BENCHMARKS, Ended, run, started, wait_until

SLOTS = 2
JOB = "bench"


def make_project(folder: Path, *, task: str | None = None, function: str = "task:noop") -> Path:
    """Make a project.

    Args:
        folder: Where; it is made.
        task: The text of ``task.py``; the benchmarks' own tasks if None.
        function: The task function.
    """
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "task.env").write_text(f"JOB_ID={JOB}\nTASK_TABLE=tasks.feather\nTASK_FUNCTION={function}\n")
    if task is None:
        shutil.copy(BENCHMARKS / "tasks.py", folder / "task.py")
    else:
        (folder / "task.py").write_text(task)
    return folder


def command(name: str, *arguments: object) -> list[str]:
    """Give the command line of one of the library's commands."""
    return [sys.executable, "-m", "taskfleet", name, *map(str, arguments)]


def worker_command(*arguments: object, tasks_per_process: int = 0, slots: int = SLOTS) -> list[str]:
    """Give the command line of a worker that says little."""
    quiet = ("--progress-seconds", 100_000)
    return command("launch_worker", "--slots", slots, "--tasks-per-process", tasks_per_process, *quiet, *arguments)


def write_table(path: Path, columns: Sequence[str], rows: int, step: int = 1_000_000) -> Path:
    """Write a feather table of 64-bit integers, each row different, without holding all of it.

    In a process of its own: the most memory a process ever held is handed on to those it starts, which is what is measured.
    """
    run([sys.executable, __file__, path, rows, step, *columns], path.parent)
    return path


def _write_table(path: str, rows: int, step: int, columns: Sequence[str]) -> None:
    import pyarrow as pa

    schema = pa.schema([(name, pa.int64()) for name in columns])
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, rows, step):
            numbers = pa.array(range(start, min(start + step, rows)), pa.int64())
            writer.write_batch(pa.record_batch([numbers] * len(columns), schema=schema))


def insert(project: Path, rows: int, columns: Sequence[str] = ("number",)) -> Ended:
    """Write a table and insert it; the insertion alone is measured, as a whole command."""
    write_table(project / "tasks.feather", columns, rows)
    return run(command("insert_tasks"), project)


def drain(project: Path, n: int, *arguments: object, tasks_per_process: int = 0) -> float:
    """Have one worker do n more tasks; give the seconds from the first one's start until all their results are in the ledger."""
    with ledger(project) as connection:
        before = succeeded(connection)
        last_key = connection.execute("SELECT coalesce(max(key), 0) FROM attempt").fetchone()[0]
        command_line = worker_command(*arguments, tasks_per_process=tasks_per_process)
        with started(command_line, project, log=project / "worker.log") as worker:
            wait_until(lambda: succeeded(connection) >= before + n or worker.poll() is not None)
            ended_at = time.time()
            wait_until(lambda: worker.poll() is not None, within=60)
        done = succeeded(connection) - before
        if done != n or worker.returncode:
            said = (project / "worker.log").read_text()[-2000:]
            raise RuntimeError(f"{done:,} of {n:,} tasks succeeded; the worker ended with {worker.returncode}:\n{said}")
        (first,) = connection.execute("SELECT min(started_at) FROM attempt WHERE key > ?", (last_key,)).fetchone()
    return ended_at - first


def succeeded(connection: sqlite3.Connection) -> int:
    """Give the number of tasks that succeeded so far; costs the same however many there are."""
    return connection.execute("SELECT coalesce(sum(n), 0) FROM counter WHERE state = 3").fetchone()[0]


class ledger:
    """A project's ledger, opened for reading, closed at the end of the block."""

    def __init__(self, project: Path) -> None:
        address = f"{(project / 'jobs' / f'{JOB}.db').as_uri()}?mode=ro"
        self._connection = sqlite3.connect(address, uri=True, timeout=60, isolation_level=None)

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def ledger_mib(project: Path) -> float:
    """Give the size of a project's ledger."""
    return os.path.getsize(project / "jobs" / f"{JOB}.db") / (1 << 20)


if __name__ == "__main__":
    _write_table(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
