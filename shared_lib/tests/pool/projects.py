"""A project with a job whose pool runs on real machines of a cluster or of hosts, for whole jobs by the commands that users run."""

import json
import subprocess
import sys
from contextlib import closing, contextmanager
from types import SimpleNamespace

from taskfleet.ledger import counters
from taskfleet.ledger.database import open_ledger


@contextmanager
def project_in(folder, *, task, pool):
    """Make a project; its processes are ended at the end.

    Args:
        folder: The folder to make.
        task: The text of its task.py.
        pool: The first lines of its config/pool.env.

    Yields:
        ``make(rows, more_pool, more_task)``, which writes the settings and inserts the tasks; ``run(*words, code)``;
        ``start(*words)``, which has the output in the file ``log``; ``ledger()``, ``states()`` and ``folder``.
    """
    (folder / "config").mkdir(parents=True)
    (folder / "task.py").write_text(task)
    (folder / "pyproject.toml").write_text('[project]\nname = "sums"\nversion = "1"\n')
    command, started = [sys.executable, "-P", "-m", "taskfleet"], []

    def run(*words, code=0):
        done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True, timeout=250, check=False)
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    def make(rows, more_pool="", more_task=""):
        (folder / "config" / "task.env").write_text(f"JOB_ID=sums\nTASK_TABLE=tasks.json\n{more_task}\n")
        (folder / "config" / "pool.env").write_text(f"{pool}\n{more_pool}\n")
        (folder / "tasks.json").write_text(json.dumps(rows))
        run("insert_tasks")

    def start(*words):
        with (folder / "log").open("ab") as log:
            started.append(
                subprocess.Popen(
                    [*command, *words],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        return started[-1]

    def ledger():
        return open_ledger(folder / "jobs" / "sums.db", job_id="sums", read_only=True)

    def states():
        with closing(ledger()) as database:
            return counters.by_state(database)

    yield SimpleNamespace(make=make, run=run, start=start, ledger=ledger, states=states, folder=folder)
    for one in started:
        one.kill()
        one.wait()
    if started:
        print((folder / "log").read_text())  # for the report of a test that failed
