"""Several hosts on one shared folder: each command in mount, pid and host name spaces of its own, on a ledger without a write-ahead log.

No host can see another's processes, so only leases tell who is alive.
"""

import ctypes
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys

import pytest
from taskfleet.tasks import Outcome

_IN_CREATE, _IN_MOVED_TO = 0x100, 0x80

#: The first host's worker is process 1, as in a container; the others' have a number that the first host has not.
_BECOME_FIRST = 'hostname "$0" && exec "$@"'
_BECOME = 'hostname "$0" || exit 99; for i in 1 2 3 4 5 6 7 8 9; do (:); done; "$@"; exit $?'


def on(host):
    """Give what to put before a command to have it run on a host of this name."""
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    become = _BECOME_FIRST if host == "first" else _BECOME
    spaces = ["--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *root, *spaces, "sh", "-c", become, host]


class Watch:
    """Whatever appears in a folder, from now on."""

    def __init__(self, folder):
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        added = self._libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_CREATE | _IN_MOVED_TO)
        assert self._fd >= 0
        assert added >= 0
        self._seen = set()

    def seen(self):
        """The names of all files that have appeared."""
        while True:
            try:
                events = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return self._seen
            at = 0
            while at < len(events):
                _, mask, _, length = struct.unpack_from("iIII", events, at)
                assert not mask & 0x4000, "there were too many to be told"
                self._seen.add(events[at + 16 : at + 16 + length].rstrip(b"\0").decode())
                at += 16 + length

    def close(self):
        os.close(self._fd)


class Hosts:
    """Commands of one project on several hosts."""

    def __init__(self, project):
        self.project = project
        project.ledger_path.parent.mkdir()
        self.watch = Watch(project.ledger_path.parent)

    def run(self, host, *words):
        """Run a command on a host to its end; give what it printed."""
        done = subprocess.run(
            [*on(host), sys.executable, "-m", "taskfleet", *words],
            cwd=self.project.folder,
            env=self.project.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def insert(self, host, numbers):
        """Insert tasks with these numbers."""
        table = f"{host}-{numbers.start}.json"
        (self.project.folder / table).write_text(json.dumps([{"task_id": f"t{n}", "n": n} for n in numbers]))
        self.run(host, "insert_tasks", "--task-table", table)

    def start(self, host, *arguments):
        """Start a worker on a host."""
        return self.project.start(*arguments, before=on(host))

    def status(self):
        """Ask for the status, on a host that does nothing else."""
        return json.loads(self.run("onlooker", "status", "--json"))

    def check_no_log(self):
        """The ledger has no write-ahead log and never had one."""
        assert (self.project.ledger_path).read_bytes()[18:20] == b"\1\1"  # of the SQLite header: 2 with such a log
        with sqlite3.connect(f"{self.project.ledger_path.as_uri()}?mode=ro", uri=True) as raw:
            assert raw.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        raw.close()
        seen = self.watch.seen()
        assert "job.db-journal" in seen
        assert not [name for name in seen if name.endswith(("-wal", "-shm"))]


@pytest.fixture
def hosts(project, lacking):
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        lacking("Linux name spaces stand in for hosts, made by the command unshare (package util-linux)")
    probe = [*on("probe"), "sh", "-c", 'test "$(hostname)" = probe && test "$(ls -d /proc/[0-9]* | wc -l)" -lt 9']
    tried = subprocess.run(probe, capture_output=True, text=True, timeout=30)
    if tried.returncode != 0:
        lacking(
            f"name spaces, which stand in for hosts, cannot be made here: {tried.stderr.strip() or tried.returncode}"
        )
    several = Hosts(project)
    yield several
    several.watch.close()


SOURCE = """
    HELD = (40, 41)

    def run_task(n, context):
        note(f"{context.hostname} began {n}")
        wait_for("begin")
        if n in HELD and context.attempt == 1:
            wait_for("gate")
        note(f"{context.hostname} ran {n}")
        return {"square": n * n, "host": context.hostname}
"""


def noted_by(project, host, word):
    """Give the numbers of tasks that a host has noted, as often as it has."""
    words = [line.split() for line in project.noted().elements()]
    return [int(n) for who, what, n in words if (who, what) == (host, word)]


def lease_until(project, host):
    return project.ask(lambda database: database.value("SELECT lease_until FROM worker WHERE hostname = ?", (host,)))


def successes(project, host):
    return project.ask(
        lambda database: database.value(
            "SELECT count(*) FROM attempt JOIN worker USING (worker_id) WHERE hostname = ? AND outcome = 0", (host,)
        )
    )


def check_results(project, hosts, tasks):
    """Every task was run to its end exactly once, and the results are right and add up; give the hosts they come from."""
    ran = noted_by(project, "first", "ran") + noted_by(project, "second", "ran")
    assert sorted(ran) == list(range(tasks))
    results = [project.result(f"t{n}") for n in range(tasks)]
    assert [result["square"] for result in results] == [n * n for n in range(tasks)]
    status = hosts.status()
    assert status["counts"]["succeeded"] == status["total"] == tasks
    assert status["duplicates"] == 0
    return {result["host"] for result in results}


@pytest.mark.slow
def test_hosts_share_a_job_while_others_insert_and_look(project, hosts, per_process):
    project.write(SOURCE, SHARED_LEDGER="true", TASKS_PER_PROCESS=per_process)
    hosts.insert("inserter", range(300))
    first, second = hosts.start("first"), hosts.start("second")
    project.until(lambda: all(noted_by(project, host, "began") for host in ("first", "second")), "both to work")
    project.open_gate("begin")
    hosts.insert("inserter", range(300, 600))
    status = hosts.status()
    assert status["total"] == sum(status["counts"].values()) == 600
    assert {worker["hostname"] for worker in status["workers"]} == {"first", "second"}
    assert {worker["pid"] for worker in status["workers"]} > {1}  # as each host counts its own
    hosts.check_no_log()
    project.until(lambda: project.counts().get("succeeded", 0) > 400, "the second table")
    project.open_gate("gate")
    first.wait()
    second.wait()
    assert check_results(project, hosts, 600) == {"first", "second"}
    assert project.tally("lost") == project.tally("retries") == 0
    hosts.check_no_log()


@pytest.mark.slow
@pytest.mark.parametrize(("busy", "idle"), [("first", "second"), ("second", "first")])
def test_a_live_worker_keeps_its_tasks_although_no_other_host_sees_its_process(project, hosts, busy, idle):
    project.write(SOURCE, SHARED_LEDGER="true", LEASE_SECONDS=9)
    hosts.insert("inserter", range(40, 42))
    project.open_gate("begin")
    worker = hosts.start(busy)
    project.until_noted(f"{busy} began 40", f"{busy} began 41")
    other = hosts.start(idle)
    project.until(lambda: "Waiting for 2 tasks running on other workers." in other.text, "the other to wait")
    before = lease_until(project, busy)
    project.until(lambda: lease_until(project, busy) > before, "a renewal; the other has looked many times meanwhile")
    project.open_gate("gate")
    worker.wait()
    other.wait()
    assert sorted(noted_by(project, busy, "began")) == sorted(noted_by(project, busy, "ran")) == [40, 41]
    assert noted_by(project, idle, "began") == []
    assert [len(project.task(task_id).attempts) for task_id in ("t40", "t41")] == [1, 1]
    assert project.tally("lost") == project.tally("duplicates") == 0
    hosts.check_no_log()


@pytest.mark.slow
def test_when_a_host_dies_its_tasks_go_to_another_once_their_lease_has_run_out(project, hosts, per_process):
    project.write(SOURCE, SHARED_LEDGER="true", TASKS_PER_PROCESS=per_process, LEASE_SECONDS=6)
    hosts.insert("inserter", range(200))
    project.open_gate("begin")
    first = hosts.start("first", "--max-tasks", 60)  # it would take all of these quick tasks otherwise
    project.until_noted("first began 40", "first began 41")
    project.until(lambda: successes(project, "first") == len(noted_by(project, "first", "ran")), "its results")
    firsts = project.processes().keys()
    second = hosts.start("second")
    project.until(lambda: noted_by(project, "second", "ran"), "the other host to work")
    first.kill()
    first.wait(code=-9)
    project.until(lambda: not firsts & project.processes().keys(), "the end of a host")
    until = lease_until(project, "first")
    project.open_gate("gate")
    second.wait()
    assert check_results(project, hosts, 200) == {"first", "second"}
    for task_id in ("t40", "t41"):
        lost, again = project.task(task_id).attempts
        assert (lost.outcome, again.outcome) == (Outcome.LOST, Outcome.SUCCEEDED)
        assert again.started_at >= until  # the other host could not know before
    assert sum(project.counts().values()) == 200
    hosts.check_no_log()


@pytest.fixture
def views(project, hosts, lacking, tmp_path):
    """What commands on each host begin with, to see the ledger's folder by a mount of their own, which has locks of its own."""
    if shutil.which("bindfs") is None:
        lacking("bindfs (Debian: bindfs) mounts a folder whose locks each mount keeps for itself")
    folder, mounted = project.ledger_path.parent, []

    found = {}
    for host in ("first", "second"):
        view = tmp_path / f"view-of-{host}"
        view.mkdir()
        done = subprocess.run(["bindfs", folder, view], capture_output=True, text=True)
        if done.returncode != 0:
            lacking(f"file systems of processes cannot be mounted here: {done.stderr}")
        mounted.append(view)
        found[host] = [*on(host), "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', view, folder]
    yield found
    for view in mounted:
        subprocess.run(["umount", view], check=True)


@pytest.mark.slow
def test_nothing_is_leased_on_a_host_that_does_not_see_the_locks_of_another(project, hosts, views):
    project.write(SOURCE, SHARED_LEDGER="true", LEASE_SECONDS=6)
    hosts.insert("inserter", range(40, 45))
    first = project.start("--slots", 1, before=views["first"])
    project.until_noted("first began 40")
    second = project.start(before=views["second"])
    second.wait(code=1)
    assert "does not keep locks between hosts" in second.text
    assert "start_queue" in second.text
    assert "Traceback" not in second.text
    project.open_gate("begin")
    project.open_gate("gate")
    first.wait()
    assert sorted(noted_by(project, "first", "ran")) == list(range(40, 45))
    assert project.ask(lambda database: database.rows("SELECT hostname FROM worker")) == [("first",)]
    assert noted_by(project, "second", "began") == []
