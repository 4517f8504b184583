"""Whole jobs over each service: inserted, worked on and monitored by processes of their own, any of which is killed at random."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid

import pytest
from taskfleet.ledger import counters
from taskfleet.ledger.database import open_ledger
from taskfleet.queues.addresses import open_transport

TASK = """
import os, signal, time

def run_task(n):
    time.sleep(0.002)
    if n == POISON:
        kill_worker()
    return {"square": n * n, "text": "é" * (n % 7)}


def kill_worker():
    \"\"\"Kill all processes of this worker, as a machine does that dies.\"\"\"
    marked = os.environ["WORKER_MARK"]
    for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                is_mine = f"WORKER_MARK={marked}".encode() in file.read().split(b"\\0")
        except OSError:
            continue
        if is_mine and int(pid) != os.getpid():
            os.kill(int(pid), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


POISON = None
"""
NUMBER = 10_000
PATIENCE_SECONDS = 240


class Place:
    """A folder with the project in it, as on a machine of its own."""

    def __init__(self, folder, service, name, *, task=TASK, **settings):
        self.folder = folder
        (folder / "config").mkdir(parents=True)
        (folder / "task.py").write_text(task)
        (folder / "pyproject.toml").write_text('[project]\nname = "example"\n')
        wanted = {
            "JOB_ID": name,
            "QUEUE_URL": service.queue_url(name),
            "TASKS_PER_PROCESS": 0,
            "LEASE_SECONDS": 6,
            "IDLE_SECONDS": 12,
            "PROGRESS_SECONDS": 5,
            **settings,
        }
        lines = [f"{key}={value}" for key, value in wanted.items()]
        (folder / "config" / "task.env").write_text("\n".join(lines) + "\n")
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        self.environment = kept | service.environment()
        self.logs = []
        self.processes = []

    def run(self, *words, code=0):
        """Run a command to its end; returns what it printed."""
        return self._run(["-m", "taskfleet", *words], code)

    def run_script(self, *words):
        """Run a script of the project to its end; returns what it printed."""
        return self._run(words, 0)

    def _run(self, words, code):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert code in (None, done.returncode), done.stdout
        return done.stdout

    def start(self, *words):
        """Start a command."""
        return self._start(["-m", "taskfleet", *words])

    def start_script(self, name):
        """Start a script of the project."""
        return self._start([name])

    def _start(self, words):
        log = self.folder / f"{len(self.logs)}.log"
        self.logs.append(log)
        mark = f"<{uuid.uuid4()}>"  # as no other test's, which may run at the same time
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.folder,
                env=self.environment | {"WORKER_MARK": mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(
                    signal.SIGINT, signal.SIG_DFL
                ),  # a background job of a shell ignores it
            )
        self.processes.append(process)
        return process

    def text(self):
        return "\n".join(f"--- {log}\n{log.read_text()}" for log in self.logs)


class Whole:
    """One job: where its ledger is, and the machines it is worked on."""

    def __init__(self, service, name, folder, **settings):
        self.service, self.name = service, name
        self.home = Place(folder / "home", service, name, **settings)
        self.machines = [Place(folder / f"machine-{n}", service, name, **settings) for n in range(2)]
        self.workers, self.monitor = [None, None], None
        self.kills = 0

    def write_table(self, rows):
        (self.home.folder / "tasks.json").write_text(json.dumps(rows))

    def insert(self, rows):
        self.write_table(rows)
        return self.home.run("insert_tasks")

    def keep_running(self):
        """Start whatever is not there."""
        for index, machine in enumerate(self.machines):
            if self.workers[index] is None or self.workers[index].poll() is not None:
                self.workers[index] = machine.start("launch_worker", "--slots", "2")
        if self.monitor is None or self.monitor.poll() not in (None, 0):
            self.monitor = self.home.start("monitor")

    def kill_one(self, process):
        """Kill a command with all that it has started."""
        self.kills += 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def counts(self):
        database = open_ledger(self.home.folder / "jobs" / f"{self.name}.db", job_id=self.name, read_only=True)
        try:
            return {state.word: n for state, n in counters.by_state(database).items() if n}
        finally:
            database.close()

    def results(self):
        """The rows of the results by argument."""
        self.home.run("results", "-o", str(self.home.folder / "results.json"))
        rows = json.loads((self.home.folder / "results.json").read_text())
        return {row["n"]: row for row in rows}

    def until_monitor_ends(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.monitor.poll() is None:
            assert time.monotonic() < deadline, f"{self.counts()}\n{self.text()}"
            self.keep_running()
            time.sleep(0.1)
        assert self.monitor.returncode == 0, self.text()

    def text(self):
        return "\n".join(place.text() for place in (self.home, *self.machines))

    def close(self):
        for process in [*self.workers, self.monitor]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        for of_events in (False, True):
            transport = open_transport(self.service.queue_url(self.name), self.name, of_events=of_events)
            transport.delete()
            transport.close()


@pytest.fixture
def whole(service, name, tmp_path):
    made = []

    def whole(**settings):
        made.append(Whole(service, name, tmp_path, **settings))
        return made[-1]

    yield whole
    for one in made:
        one.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ten_thousand_tasks_come_out_right_although_anybody_is_killed_at_any_time(whole):
    job = whole()
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    rows = [{"n": n} for n in range(NUMBER)]
    job.write_table(rows)
    for _ in range(2):
        inserter = job.home.start("insert_tasks")
        time.sleep(chance.uniform(0.2, 1.0))
        job.kill_one(inserter)
    job.insert(rows)
    job.keep_running()
    for _ in range(8):
        time.sleep(chance.uniform(0.3, 2.0))
        victims = [one for one in (*job.workers, job.monitor) if one.poll() is None]
        if victims and job.monitor.poll() is None:
            job.kill_one(chance.choice(victims))
        if job.monitor.poll() == 0:
            break
        job.keep_running()
    job.until_monitor_ends()
    assert job.kills > 5, "the job was over too soon to show anything"
    assert job.counts() == {"succeeded": NUMBER}, seed
    results = job.results()
    assert len(results) == NUMBER
    assert all(results[n]["result_square"] == n * n for n in range(NUMBER))
    assert all(results[n]["result_text"] == "é" * (n % 7) for n in range(NUMBER))
    assert sum(row["result_square"] for row in results.values()) == sum(n * n for n in range(NUMBER))
    status = json.loads(job.home.run("status", "--json"))
    assert sum(status["counts"].values()) == status["total"] == NUMBER


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_task_that_kills_its_machine_is_found_and_set_apart(whole):
    job = whole(RETRIES_ON_LOST=2, TASKS_PER_MESSAGE=100, LEASE_SECONDS=6, IDLE_SECONDS=15)
    for machine in job.machines:
        (machine.folder / "task.py").write_text(TASK.replace("POISON = None", "POISON = 77"))
    job.insert([{"n": n} for n in range(300)])
    job.keep_running()
    job.until_monitor_ends()
    assert job.counts() == {"succeeded": 299, "failed": 1}, job.home.run("tasks", "--state", "failed", "--json")
    failed = job.home.run("tasks", "--state", "failed")
    assert "lost" in failed
    assert set(job.results()) >= set(range(300)) - {77}
