"""One job in a temporary folder: how its inserters, workers and commands are started, and what runs of it.

Over a queue at a service, workers have a folder of their own without the ledger, and a monitor is kept running beside it.
"""

import ctypes
import importlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from taskfleet import cli
from taskfleet.ledger import database
from taskfleet.terminal.guard import INTERRUPTED

from tests.chaos import clock, graphs, work
from tests.chaos.queues import LEDGER, Place
from tests.chaos.scenario import LEVELS

#: The commands of a run, and what these import only when they need it. Imported here, they are in every process forked from this one;
#: otherwise each process spends much of its short life on imports.
PRELOADED = (
    "commands.delete_queue",
    "commands.insert_tasks",
    "commands.launch_worker",
    "commands.monitor",
    "commands.move_queue",
    "commands.purge_queue",
    "commands.release",
    "commands.retry",
    "commands.status",
    "tables.filtering",
    "tables.ids",
    "tables.reading",
    "tables.records",
    "worker.warm",
)
for _name in PRELOADED:
    importlib.import_module(f"taskfleet.{_name}")

TICK_SECONDS = 0.003
MONITOR_PAUSE_SECONDS = 1.0
#: Enough for the ledgers of a run, and quick to fill.
DISK_BYTES = 24 << 20

_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


class StuckError(Exception):
    """Something did not come to its end in time."""


@dataclass
class Started:
    """A process that the harness has started."""

    pid: int
    what: str
    log: Path
    keeps_waiting: bool = False
    exit_code: int | None = None
    """Negative for a signal; None while it runs."""
    was_hit: bool = False
    """Whether a fault killed it."""

    @property
    def text(self):
        """What it has printed."""
        return self.log.read_text(errors="replace")


@dataclass
class Job:
    """A job and its processes; all of them are descendants of this process and stay so, whatever they do."""

    folder: Path
    settings: dict
    patience_seconds: float
    own_disk: bool = False
    service: object = None
    """The queue's, None for the ledger itself."""
    job_id: str = "chaos"
    started: list = field(default_factory=list)
    history: list = field(default_factory=list)
    """What was done, and what it hit: (seconds, text)."""

    def __post_init__(self):
        """Make the folders and files."""
        _adopt_orphans()
        self.began_at = time.monotonic()
        self.project = self.folder / "project"
        self.project.mkdir(parents=True)
        self.has_own_disk = self.own_disk and _mount_memory(self.project, DISK_BYTES)
        self.notes_path = self.folder / "notes"
        self.clock_path = self.folder / "clock"
        clock.follow(self.clock_path)
        (self.folder / "startup").mkdir()
        shutil.copy(clock.__file__, self.folder / "startup" / "sitecustomize.py")
        self.machine = self.project if self.service is None else self.folder / "machine"
        settings = {"JOB_ID": self.job_id, "RESULTS_PATH": self.results_path, **self.settings}
        self._settings = settings
        for place in {self.project, self.machine}:
            (place / "config").mkdir(parents=True)
            (place / "task.py").write_text(work.SOURCE)
        self._write_settings()
        self._monitored_at = 0.0
        self.ends_monitor = False
        self._notes_read = 0
        self._begun = 0

    def _write_settings(self):
        if self.service is not None:
            self._settings["QUEUE_URL"] = self.service.queue_url(self.job_id)
        for place in {self.project, self.machine}:
            lines = [f"{name}={value}" for name, value in self._settings.items()]
            (place / "config" / "task.env").write_text("\n".join(lines) + "\n")

    @property
    def is_local(self):
        """Whether the tasks are in the ledger."""
        return self.service is None or (isinstance(self.service, Place) and self.service.name == LEDGER)

    def follow(self):
        """Write into the settings where the tasks are, if they move."""
        if not isinstance(self.service, Place):
            return
        rows = []
        with suppress(sqlite3.OperationalError):  # there is no ledger yet, or it is in the making
            rows = self.query(
                "SELECT queue_url FROM job WHERE queue_url IS NOT NULL OR EXISTS (SELECT 1 FROM tally WHERE name = 'inserted' AND n)"
            )
        if rows:
            self.service.follow(rows[0][0])
            self._write_settings()
            self.note(f"the tasks are at {self.service.name}")

    @property
    def ledger_path(self):
        """The ledger."""
        return self.project / "jobs" / f"{self.job_id}.db"

    @property
    def results_path(self):
        """Where the large values of graphs are, for workers elsewhere too."""
        return self.project / "jobs" / "chaos.results"

    @property
    def event_path(self):
        """The file of events."""
        return self.project / "events.jsonl"

    # --- starting ---

    def write_table(self, index, table):
        """Write a table that can be inserted."""
        data = [{"n": row.n, "kind": row.kind, "seconds": row.seconds} for row in table.rows]
        if table.has_ids:
            data = [{"task_id": f"t{one['n']}", "data": one} for one in data]
        (self.project / f"table{index}.json").write_text(json.dumps(data))

    def insert(self, index):
        """Start an inserter."""
        return self._start("inserter", ["insert_tasks", "--task-table", f"table{index}.json"])

    def drive(self, graph):
        """Start the script that makes a graph."""
        return self._start("inserter", ["(a script)"], script=lambda: graphs.drive(graph))

    def work(self, settings=(), *, in_new_interpreter=False):
        """Start a worker."""
        return self._start("worker", ["launch_worker"], dict(settings), in_new_interpreter)

    def keep_monitored(self):
        """Have a monitor run, once there is a ledger."""
        if self.is_local or self.ends_monitor or self.alive("monitor") or not self.ledger_path.exists():
            return
        if time.monotonic() - self._monitored_at > MONITOR_PAUSE_SECONDS:
            self._monitored_at = time.monotonic()
            self._start("monitor", ["monitor"])

    def command(self, words):
        """Start another command."""
        return self._start("command", list(words))

    def _start(self, what, argv, settings=None, in_new_interpreter=False, script=None):
        log = self.folder / f"{len(self.started)}-{what}.log"
        mine = {
            work.NOTES: str(self.notes_path),
            clock.VARIABLE: str(self.clock_path),
            "PYTHONPATH": str(self.folder / "startup"),
            "PYTHONFAULTHANDLER": "1",
        }
        service = {} if self.service is None else self.service.environment()
        environment = _environment() | service | mine | (settings or {})
        place = self.machine if what == "worker" and not self.is_local else self.project
        pid = self.fork(lambda: self._become(argv, environment, log, place, in_new_interpreter, script))
        one = Started(pid, what, log, keeps_waiting="KEEP_WAITING" in (settings or {}))
        log.touch()
        self.started.append(one)
        self.note(f"started {what} {pid}: {' '.join(argv)} {settings or ''}")
        return one

    def _become(self, argv, environment, log, place, in_new_interpreter, script):
        """Be a process of the library, in a child."""
        os.setsid()
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for number in (1, 2):
            os.dup2(fd, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(place)
        if in_new_interpreter:
            os.execve(sys.executable, [sys.executable, "-m", "taskfleet", *argv], environment)
        os.environ.clear()
        os.environ.update(environment)
        sys.stdout = open(1, "w", closefd=False, buffering=1)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
        database.BUSY_TIMEOUT_SECONDS = self.patience_seconds
        try:
            return cli.main(argv) if script is None else script()
        except SystemExit as stop:
            return stop.code

    def fork(self, action):
        """Run an action in a child that ends with what it returns; give its id."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return pid
        code = 70
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = action() or 0
        except KeyboardInterrupt:  # before or after the library could hear it
            code = INTERRUPTED
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    # --- watching ---

    def note(self, text):
        """Add to the history."""
        self.history.append((time.monotonic() - self.began_at, text))

    def reap(self):
        """Take note of what has ended; return whether any process is left."""
        while True:
            try:
                pid, status_ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            for one in self.started:
                if one.pid == pid:
                    one.exit_code = os.waitstatus_to_exitcode(status_)
                    self.note(f"{one.what} {pid} ended with {one.exit_code}")

    def alive(self, what=None):
        """Give the started processes that still run."""
        return [one for one in self.started if one.exit_code is None and what in (None, one.what)]

    def levels(self, pid):
        """Give the processes of a tree, by their distance from its root."""
        levels = [[pid]]
        while children := [child for parent in levels[-1] for child in children_of(parent)]:
            levels.append(children)
        return levels

    def targets(self, target, pick):
        """Give the processes that a fault hits and what they are; the next best where there is none of that kind."""
        if target in ("inserter", "monitor"):
            found = self.alive(target)
            if found:
                return [found[int(pick * len(found))].pid], target
        workers = self.alive("worker")
        if not workers:
            return [], "nobody"
        worker = workers[int(pick * len(workers))]
        levels = self.levels(worker.pid)
        if target == "tree":
            return [pid for level in levels for pid in level], f"the tree of worker {worker.pid}"
        level = min(LEVELS.index(target) if target in LEVELS else 0, len(levels) - 1)
        pids = levels[level]
        return [pids[int(pick * 997) % len(pids)]], f"{LEVELS[min(level, len(LEVELS) - 1)]} of worker {worker.pid}"

    def mark_hit(self, pids):
        """Remember that these were killed by a fault."""
        for one in self.started:
            if one.pid in pids:
                one.was_hit = True

    def begun(self):
        """Say how many attempts have begun."""
        with suppress(FileNotFoundError), self.notes_path.open("rb") as file:
            file.seek(self._notes_read)
            text = file.read()
            self._notes_read += len(text)
            self._begun += text.count(b"began ")
        return self._begun

    def left(self):
        """Give what still runs below this process, with command lines."""
        pids = [pid for level in self.levels(os.getpid())[1:] for pid in level]
        return {pid: command_line(pid) for pid in pids if state_of(pid) not in "ZX?"}

    def end_all(self):
        """Kill whatever is left."""
        deadline = time.monotonic() + 10
        while self.reap() and time.monotonic() < deadline:
            for pid in self.left():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(TICK_SECONDS)

    def clear_up(self):
        """Leave nothing."""
        self.end_all()
        if self.has_own_disk:
            _unmount(self.project)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what is left ---

    def notes(self):
        """Give what the tasks have noted: (word, id, attempt, n) and how often."""
        return Counter(self.notes_in_order())

    def notes_in_order(self):
        """Give them as they were noted."""
        text = self.notes_path.read_text() if self.notes_path.exists() else ""
        lines = map(str.split, text.splitlines())
        return [(word, task_id, int(attempt), int(n)) for word, task_id, attempt, n in lines]

    def query(self, sql):
        """Ask the ledger, without the library."""
        connection = sqlite3.connect(f"{self.ledger_path.as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


def children_of(pid):
    """List the children of a process."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def state_of(pid):
    """Give the letter of a process's state, '?' if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "?"


def command_line(pid):
    """Give a process's command line, for messages."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "gone"


def can_mount():
    """Whether this process may have mounts of its own."""
    return os.geteuid() == 0 and sys.platform.startswith("linux")


def _environment():
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}


def _libc():
    return ctypes.CDLL(None, use_errno=True)


def _adopt_orphans():
    """Become the parent of all descendants whose own parent dies, so that none can get away unseen."""
    _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _mount_memory(folder, size):
    """Mount a file system of that size, which nobody but this process and its descendants sees; False where that is not allowed."""
    libc = _libc()
    if not can_mount() or libc.unshare(_CLONE_NEWNS):
        return False
    if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        return False
    return not libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode())


def _unmount(folder):
    _libc().umount2(os.fsencode(folder), 2)  # MNT_DETACH; the namespace ends with this process anyway
