"""Real jobs in small projects: a task function, a ledger, workers as processes, and what is left of them afterwards."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from taskfleet.ledger import counters, insertion, queries
from taskfleet.ledger.database import create, open_ledger
from taskfleet.tasks import State

MARK = "TASKFLEET_TEST_RUN"
JOB = "job"

#: How long something may take on a machine that is busy with other things.
PATIENCE_SECONDS = 200.0

#: Values of TASKS_PER_PROCESS, and what they mean.
PER_PROCESS = {1: "process-per-task", 0: "process-for-ever", 3: "three-per-process"}

#: Each task's own words, and gates that it can wait at, so that no test has to guess how long something takes.
NOTES = '''
import os
import time


def note(word):
    """Append a line to the file that the test reads."""
    fd = os.open(os.environ["NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word}\\n".encode())
    os.close(fd)


def ancestor(generations):
    """Give the process id of this process's parent (1), its parent (2), and so on."""
    pid = os.getpid()
    for _ in range(generations):
        with open(f"/proc/{pid}/stat") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
    return pid


def wait_for(gate, seconds=120):
    """Wait until the test opens a gate."""
    deadline = time.monotonic() + seconds
    while not os.path.exists(os.path.join(os.environ["GATES"], gate)):
        if time.monotonic() > deadline:
            raise TimeoutError(gate)
        time.sleep(0.005)
'''

DEFAULTS = {
    "JOB_ID": JOB,
    "SLOTS": 2,
    "RETRY_DELAY_SECONDS": 0.05,
    "RETRIES_ON_EXIT": 0,  # what comes of a task is seen in its first attempt
    "LEASE_SECONDS": 30,
}


def until(condition, what="it", seconds=PATIENCE_SECONDS):
    """Wait for a condition; return its first true value. ``what`` may be a function that says at the end what is missing."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain for {what() if callable(what) else what}")
        time.sleep(0.01)
    return value


def processes_with(mark):
    """Give the living processes that have a text in their environment: id to parent's id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes():
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    found[int(entry.name)] = int(fields[1])
    return found


def command_line(pid):
    """Give a process's command line, for messages."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return "gone"


def _processes(mark):
    """Say what each process with a mark is at, for messages."""
    lines = []
    for pid, parent in processes_with(mark).items():
        with suppress(OSError):
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            waits_in = Path(f"/proc/{pid}/wchan").read_text()
            lines.append(f"{pid} of {parent} {state} {waits_in}: {command_line(pid)}")
    return "\n".join(lines)


class Worker:
    """One worker at work."""

    def __init__(self, process, log, mark):
        self.process = process
        self.pid = process.pid
        self.started_at = time.monotonic()
        self.seconds = None
        self._log = log
        self._mark = mark

    @property
    def text(self):
        """All it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait(self, code=0, seconds=PATIENCE_SECONDS):
        """Wait for its end."""
        try:
            found = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker did not end within {seconds:g} s; it said:\n{self.text}\n{_processes(self._mark)}")
        self.seconds = time.monotonic() - self.started_at
        assert found == code, f"the worker ended with {found}:\n{self.text}"
        return self

    def kill(self, number=signal.SIGKILL):
        """Send a signal to the supervisor."""
        os.kill(self.pid, number)

    @property
    def warm(self):
        """The id of the warm process."""
        children = [pid for pid, parent in processes_with(self._mark).items() if parent == self.pid]
        return children[0] if children else None

    @property
    def slots(self):
        """The ids of the slots."""
        warm = self.warm
        return [pid for pid, parent in processes_with(self._mark).items() if warm is not None and parent == warm]

    @property
    def runners(self):
        """The ids of the processes that run tasks."""
        slots = self.slots
        return [pid for pid, parent in processes_with(self._mark).items() if parent in slots]


class Project:
    """A project's folder with a job in it."""

    def __init__(self, folder, start_method="auto"):
        self.folder = folder
        self.start_method = start_method
        self._defaults = DEFAULTS | {"START_METHOD": start_method}
        self.mark = f"{MARK}={uuid.uuid4()}"
        self.workers = []
        self._notes = folder / "notes.txt"
        self._gates = folder / "gates"
        self._gates.mkdir()
        (folder / "config").mkdir()
        (folder / "notes.py").write_text(NOTES)

    def write(self, source, *, exports=None, **settings):
        """Write task.py and config/task.env."""
        (self.folder / "task.py").write_text("from notes import note, wait_for\n" + textwrap.dedent(source))
        lines = [f"{name}={value}" for name, value in (self._defaults | settings).items()]
        lines += [f"export {name}={value}" for name, value in (exports or {}).items()]
        (self.folder / "config" / "task.env").write_text("\n".join(lines) + "\n")
        return self

    def forks_per_task(self, per_process):
        """Whether between a slot and a task's process stands the runner that forked it."""
        return per_process == 1 and self.start_method in ("auto", "fork")

    @property
    def ledger_path(self):
        return self.folder / "jobs" / f"{JOB}.db"

    def insert(self, rows):
        """Insert tasks: a mapping from id to arguments, or arguments alone, which get the ids t0, t1, …"""
        if not isinstance(rows, dict):
            rows = {f"t{index}": row for index, row in enumerate(rows)}
        database = create(self.ledger_path, job_id=JOB, project=self.folder, now=time.time())
        under_way = insertion.begin(database, source="test")
        ids, data = list(rows), [json.dumps(row, separators=(",", ":"), sort_keys=True) for row in rows.values()]
        under_way.add(ids, data, ids_are_derived=False, now=time.time())
        under_way.accept(time.time())
        database.close()
        return self

    def environment(self):
        """The environment of this test's processes: nothing that could steer them, and the mark to find them by."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        name, _, value = self.mark.partition("=")
        return kept | {name: value, "NOTES": str(self._notes), "GATES": str(self._gates)}

    def start_script(self, name, *arguments):
        """Start a worker as a script of the project."""
        return self.start(*arguments, command=(name,))

    def start(self, *arguments, environment=None, ignoring=(), before=(), command=("-m", "taskfleet", "launch_worker")):
        """Start a worker in the background; ``before`` stands before its command."""
        log = self.folder / f"worker-{len(self.workers)}.log"

        def prepare():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN if number in ignoring else signal.SIG_DFL)

        with log.open("wb") as output:
            process = subprocess.Popen(
                [*before, sys.executable, *command, *map(str, arguments)],
                cwd=self.folder,
                env=self.environment() | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=prepare,
            )
        worker = Worker(process, log, self.mark)
        self.workers.append(worker)
        return worker

    def work(self, *arguments, code=0, seconds=PATIENCE_SECONDS, environment=None):
        """Have a worker do the job to its end."""
        return self.start(*arguments, environment=environment).wait(code, seconds)

    def open_gate(self, gate):
        """Let the tasks go on that wait at a gate."""
        (self._gates / gate).touch()

    def noted(self):
        """The words that tasks have noted, with how often."""
        return Counter(self._notes.read_text().split("\n")[:-1] if self._notes.exists() else [])

    def until_noted(self, *words):
        """Wait until tasks have noted all of these."""
        until(
            lambda: set(words) <= self.noted().keys(),
            lambda: f"{words} in {self.noted()}; {self._said()}\n{_processes(self.mark)}",
        )

    def until(self, condition, what="it", seconds=PATIENCE_SECONDS):
        """Wait for a condition; return its first true value."""
        return until(condition, what, seconds)

    def noted_number(self, word):
        """The number that a task has noted behind a word, as in ``pid 17``; waits for it."""
        found = until(lambda: [line for line in self.noted() if line.startswith(f"{word} ")], word)
        return int(found[0].split()[1])

    def ask(self, question, *arguments, **options):
        """Ask the ledger something."""
        database = open_ledger(self.ledger_path, job_id=JOB, read_only=True)
        try:
            return question(database, *arguments, **options)
        finally:
            database.close()

    def task(self, task_id):
        """One task whole."""
        return self.ask(queries.find_task, task_id)

    def last(self, task_id):
        """A task's latest attempt that ended."""
        return self.task(task_id).attempts[-1]

    def result(self, task_id):
        """What a task returned; it must have succeeded."""
        task = self.task(task_id)
        assert task.state is State.SUCCEEDED, (task_id, task.state, task.attempts)
        return json.loads(task.attempts[-1].result)

    def failure(self, task_id):
        """The first line of why a task failed."""
        task = self.task(task_id)
        assert task.state is State.FAILED, (task_id, task.state, task.attempts)
        return (task.attempts[-1].error or "").partition("\n")[0]

    def counts(self):
        """The number of tasks in each state that has any."""
        return {state.word: n for state, n in self.ask(counters.by_state).items() if n}

    def tally(self, name):
        """A running total of the ledger."""
        return self.ask(counters.tallies)[name]

    def processes(self):
        """The living processes of all workers of this test."""
        return processes_with(self.mark)

    def _said(self):
        return "\n".join(worker.text for worker in self.workers)

    def check(self):
        """Nothing is left running, and every task is in exactly one state."""
        with suppress(AssertionError):
            until(lambda: not self.processes())
        left = {pid: command_line(pid) for pid in self.processes()}
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"left running: {left}\n{self._said()}"
        if self.ledger_path.exists():
            counts, inserted = self.counts(), self.tally("inserted")
            assert sum(counts.values()) == inserted, counts
            rows = self.ask(lambda database: dict(database.rows("SELECT state, count(*) FROM state GROUP BY state")))
            fresh = self.ask(lambda database: database.value("SELECT sum(last_seq - next_seq + 1) FROM segment")) or 0
            rows[State.PENDING] = rows.get(State.PENDING, 0) + fresh
            assert {State(state).word: n for state, n in rows.items() if n} == counts

    def clear_up(self):
        """End whatever a failed test has left."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill(signal.SIGCONT)
                worker.kill()
                worker.process.wait()


def pytest_generate_tests(metafunc):
    """Give tests that ask for it each TASKS_PER_PROCESS, and those that are marked so each start method with some of them."""
    given = " ".join(str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize"))
    wants_methods = metafunc.definition.get_closest_marker("every_start_method") is not None
    if "per_process" in metafunc.fixturenames and "per_process" not in given:
        pairs = [("fork", n) for n in PER_PROCESS]
        if wants_methods:
            pairs += [("spawn", 1), ("spawn", 0), ("forkserver", 1), ("forkserver", 3)]
        names = [PER_PROCESS[n] if method == "fork" else f"{method}-{PER_PROCESS[n]}" for method, n in pairs]
        values = [pytest.param(*pair, marks=_slow_if_not_forked(pair[0])) for pair in pairs]
        metafunc.parametrize(("start_method", "per_process"), values, ids=names, indirect=True)
    elif wants_methods:
        methods = ("fork", "spawn", "forkserver")
        values = [pytest.param(method, marks=_slow_if_not_forked(method)) for method in methods]
        metafunc.parametrize("start_method", values, indirect=True)


def _slow_if_not_forked(method):
    return () if method == "fork" else pytest.mark.slow


@pytest.fixture
def start_method(request):
    """START_METHOD."""
    return getattr(request, "param", "auto")


@pytest.fixture
def project(tmp_path, start_method):
    """A project without tasks; at the end nothing of it may run any more and its counts must be right."""
    folder = tmp_path / "project"
    folder.mkdir()
    one = Project(folder, start_method)
    yield one
    one.clear_up()
    one.check()


@pytest.fixture
def per_process(request):
    """TASKS_PER_PROCESS."""
    return request.param
