"""QUEUE_URL=server: ``poe start_queue`` and ``stop_queue`` with a real PostgreSQL, on this computer and on a real Slurm cluster.

As root, the server runs as another user, who has to reach its data; so the project is not in a folder of pytest, which is root's alone.
"""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from taskfleet.errors import CommandError, UnreachableError
from taskfleet.ledger import counters
from taskfleet.ledger.database import open_ledger
from taskfleet.processes.identity import host, is_surely_dead
from taskfleet.queues.own_server import ask, connect, read_record
from taskfleet.server.addresses import addresses_towards
from taskfleet.tasks import State

from shared_lib.tests.machines.contract import until

TASK = """
import pathlib, time

def run_task(n, gate=""):
    while gate and not pathlib.Path(gate).exists():
        time.sleep(0.05)
    with open("ran", "a") as file:
        file.write(f"{n}\\n")
    return n * n
"""


@pytest.fixture
def project():
    """A project without a queue: ``project.run(*words)`` runs one of its commands; its server is ended and its data deleted."""
    folder = Path(tempfile.mkdtemp(prefix="queue-"))
    for each in (folder, folder / "config", folder / "jobs", folder / "jobs" / "queue_server"):
        each.mkdir(exist_ok=True)
        each.chmod(0o755)
    (folder / "task.py").write_text(TASK)
    (folder / "pyproject.toml").write_text('[project]\nname = "squares"\nversion = "1"\n')
    (folder / "config" / "task.env").write_text(
        "JOB_ID=squares\nTASK_TABLE=tasks.json\n# Queue.\n#QUEUE_URL=ledger\nLEASE_SECONDS=60\n"
    )
    command, started, records = [sys.executable, "-P", "-m", "taskfleet"], [], []
    server = folder / "jobs" / "queue_server"

    def record():
        records.append(read_record(server))
        return records[-1]

    def run(*words, code=0, before=(), env=None):
        done = subprocess.run(
            [*before, *command, *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
            env={**os.environ, **(env or {})},
        )
        record()
        assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    def start(*words, before=()):
        started.append(
            subprocess.Popen(
                [*before, *command, *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        )
        return started[-1]

    def insert(n, gates=(), pool="PROVIDER=local"):
        """Insert tasks; all but the first of equal parts wait for a file each."""
        (folder / "config" / "pool.env").write_text(f"{pool}\n")
        rows = [{"n": i, "gate": ("", *gates)[i * (len(gates) + 1) // n]} for i in range(n)]
        (folder / "tasks.json").write_text(json.dumps(rows))
        run("insert_tasks")

    def states():
        with closing(open_ledger(folder / "jobs" / "squares.db", job_id="squares", read_only=True)) as database:
            return counters.by_state(database)

    def ran():
        with suppress(FileNotFoundError):
            return Counter((folder / "ran").read_text().split())
        return Counter()

    def check(n):
        """All tasks have run, and each once."""
        assert states() == {**dict.fromkeys(State, 0), State.SUCCEEDED: n}
        assert ran() == Counter(map(str, range(n)))
        run("results", "-o", "results.json")
        rows = json.loads((folder / "results.json").read_text())
        assert sorted(row["result"] for row in rows) == [i * i for i in range(n)]

    yield SimpleNamespace(
        folder=folder,
        server=server,
        run=run,
        start=start,
        insert=insert,
        record=record,
        states=states,
        ran=ran,
        check=check,
    )
    for one in started:
        with suppress(ProcessLookupError):
            os.killpg(one.pid, signal.SIGKILL)
        one.wait()
    for one in filter(None, records):
        if one.host == host() and one.process and not is_surely_dead(one.process):
            kill(one)
        shutil.rmtree(Path(one.data).parent, ignore_errors=True)
    shutil.rmtree(folder)


def pid_of(record):
    return int(record.process.split("|")[1])


def children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill(record):
    """End a server and all its processes, as a computer that loses power does."""
    pid = pid_of(record)
    os.kill(pid, signal.SIGSTOP)  # it would end its processes in order, or start others
    for one in (pid, *children(pid)):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    until(lambda: is_surely_dead(record.process), "its end")


def answers(project):
    try:
        return ask(project.record(), "SELECT count(*) FROM taskfleet_queues")
    except UnreachableError:
        return None


def on(host):
    """What a command begins with to run on a computer of this name, which sees all files, and no process of others."""
    names = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*names, "sh", "-c", 'hostname "$0" && exec "$@"', host]


def test_a_job_runs_on_the_project_s_own_server(project):
    said = project.run("start_queue")
    assert "Set QUEUE_URL=server in" in said.out
    lines = (project.folder / "config" / "task.env").read_text().splitlines()
    assert lines == ["JOB_ID=squares", "TASK_TABLE=tasks.json", "# Queue.", "QUEUE_URL=server", "LEASE_SECONDS=60"]
    record = project.record()
    again = project.run("start_queue")
    assert "is running on" in again.out
    assert project.record() == record
    project.insert(100)
    assert "JOB COMPLETE" in project.run("deploy_pool", "--yes").out
    project.check(100)
    stopped = project.run("stop_queue")
    assert "data.tar.gz" in stopped.out
    assert is_surely_dead(record.process)
    assert not Path(record.data).parent.exists()
    assert "does not run" in project.run("stop_queue", code=1).err
    if list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        said = project.run("start_queue", "--system", code=1)
        assert f"made by PostgreSQL {record.version}" in said.err
    project.run("start_queue")
    assert answers(project)


def test_nobody_else_gets_in(project):
    project.run("start_queue")
    record = project.record()
    for name in ("server.json", "log", "lock"):
        assert stat.S_IMODE((project.server / name).stat().st_mode) == 0o600
    assert (
        stat.S_IMODE(Path(record.data).stat().st_mode) == stat.S_IMODE(Path(record.data).parent.stat().st_mode) == 0o700
    )
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert record.password.encode() not in path.read_bytes()
    assert record.password not in (project.server / "log").read_text()
    assert record.password not in repr(record)
    listening = subprocess.run(["ss", "-Htlnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    own = [line.split()[3] for line in listening if f"pid={pid_of(record)}," in line]
    assert own == [f"127.0.0.1:{record.port}"]
    place = {"host": "127.0.0.1", "port": record.port, "connect_timeout": 10}
    for user, password in (("taskfleet", "guess"), ("taskfleet", ""), ("owner", record.password), ("postgres", "")):
        with pytest.raises(
            psycopg.OperationalError, match=r"authentication failed|no password|no pg_hba.conf entry|SASL"
        ):
            psycopg.connect(user=user, password=password, dbname="taskfleet", **place)
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry"):
        psycopg.connect(user="taskfleet", password=record.password, dbname="postgres", **place)
    assert ask(record, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
    assert (
        ask(record, "SELECT setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')")
        == [("on",)] * 3
    )


@pytest.mark.slow
def test_a_server_that_is_killed_or_stopped_and_started_again_loses_no_finished_task(project):
    project.run("start_queue")
    project.insert(30, gates=("first", "second"))
    pool = project.start("deploy_pool", "--yes")
    until(lambda: len(project.ran()) == 10, "some results")
    kill(project.record())
    port = project.record().port
    assert "Using the data of the last server" in project.run("start_queue").out
    assert project.record().port == port
    (project.folder / "first").touch()
    until(lambda: len(project.ran()) == 20, "more results")
    until(lambda: "connected" in project.run("stop_queue", code=1).err, "workers to be connected again")
    project.run("stop_queue", "--force")
    assert pool.poll() is None
    (project.folder / "second").touch()
    project.run("start_queue")
    assert pool.wait(250) == 0
    project.check(30)


def catches(pid, number):
    """Return whether a process has a handler for a signal."""
    [mask] = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_data_are_found_on_their_computer_only_or_wherever_they_were_saved(project, lacking):
    if subprocess.run([*on("other"), "true"], capture_output=True, check=False).returncode != 0:
        lacking("name spaces, which stand in for computers, cannot be made here")
    project.run("start_queue")
    project.insert(1)
    record = project.record()
    said = project.run("stop_queue", before=on("other"), code=1)
    assert f"ssh {record.hostname}" in said.err
    kill(record)
    said = project.run("start_queue", before=on("other"), code=1)
    assert f"was started on {record.hostname}" in said.err
    assert "--take-over" in said.err
    again = project.run("start_queue", before=on(record.hostname))  # as after a reboot: no process is known from before
    assert "Using the data of the last server" in again.out  # and it ended with that computer
    project.run("start_queue")
    project.run("stop_queue")
    moved = project.start("start_queue", "--wait", before=on("other"))
    until(lambda: project.record().hostname == "other" and answers(project), "the server on the other computer")
    [started] = children(
        moved.pid
    )  # of unshare, which does not listen; the first process of a namespace ignores signals without handlers
    until(lambda: catches(started, signal.SIGTERM), "a process that waits")
    os.kill(started, signal.SIGTERM)
    assert moved.wait(60) == 0
    assert project.record().has_ended


def test_without_data_a_server_begins_only_on_request_and_release_sends_the_tasks(project):
    project.run("start_queue")
    project.insert(10)
    record = project.record()
    kill(record)
    shutil.rmtree(Path(record.data).parent)
    said = project.run("start_queue", code=1)
    assert "are gone" in said.err
    project.run("start_queue", "--take-over")
    project.run("release")
    assert "JOB COMPLETE" in project.run("deploy_pool", "--yes").out
    project.check(10)


def test_a_server_of_somebody_else_at_an_earlier_address_learns_nothing_and_is_passed_over(project):
    project.run("start_queue")
    record, heard = project.record(), []
    impostor = socket.create_server(("127.0.0.2", record.port))

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = impostor.accept()
                with connection, suppress(OSError):
                    heard.append(connection.recv(10_000))
                    connection.sendall(b"R\x00\x00\x00\x08\x00\x00\x00\x03")  # "the password in clear text, please"
                    heard.append(connection.recv(10_000))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        wrong = SimpleNamespace(**{name: getattr(record, name) for name in record.__slots__})
        wrong.addresses, wrong.hostname = ("192.0.2.1x", "127.0.0.2", "127.0.0.1"), record.hostname
        connection, address = connect(wrong, {})
        connection.close()
        assert address == "127.0.0.1"
        wrong.addresses = ("127.0.0.2",)
        with pytest.raises(UnreachableError, match="does not answer"):
            connect(wrong, {})
    finally:
        impostor.shutdown(socket.SHUT_RDWR)
        impostor.close()
        thread.join()
    assert heard[0]
    assert record.password.encode() not in b"".join(heard)


def test_a_server_listens_only_where_packets_to_workers_leave_this_computer():
    assert addresses_towards(["127.0.0.7", "no-such-host.invalid"]) == ("127.0.0.1",)
    with pytest.raises(CommandError, match="--listen"):
        addresses_towards(["no-such-host.invalid"])


def test_two_commands_at_once_start_one_server(project):
    both = [project.start("start_queue") for _ in range(2)]
    assert sorted(one.wait(120) for one in both) in ([0, 0], [0, 1])
    record = project.record()
    assert "is running on" in project.run("start_queue").out
    assert project.record() == record


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        ((), {"QUEUE_URL": "sqs://mine"}, ["QUEUE_URL=sqs://mine", "the environment"]),
        (("--queue-url", "ledger"), {}, ["QUEUE_URL=ledger", "command line"]),
        (("--provider", "aws"), {}, ["PROVIDER=aws", "sqs://"]),
        (("--as-job", "--provider", "local"), {}, ["--as-job", "PROVIDER=slurm"]),
        (("--as-job", "--wait"), {}, ["--wait"]),
        (("--hours", "3"), {}, ["--as-job"]),
        (("--listen", "192.0.2.1"), {}, ["192.0.2.1", "address of this computer"]),
        (("--data", "config/task.env"), {}, ["config/task.env", "--data"]),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_started(project, words, settings, said):
    before = (project.folder / "config" / "task.env").read_text()
    answer = project.run("start_queue", *words, env=settings, code=None)
    assert answer.code in (1, 2)
    for word in said:
        assert word in answer.err
    assert answer.err.count("\n") <= 2
    assert project.record() is None
    assert (project.folder / "config" / "task.env").read_text() == before


SLURM = "PROVIDER=slurm\nCPUS=2\nMEMORY_GIB=-1\nMACHINES=2\n"


@pytest.mark.slow
def test_a_server_on_the_login_node_moves_to_a_job_of_its_own_and_survives_that_job(project, on_slurm):
    (project.folder / "config" / "pool.env").write_text(SLURM)
    project.run("start_queue")
    assert project.record().addresses == ("127.0.0.1",)  # that of the nodes
    project.insert(30, gates=("first", "second"), pool=SLURM)
    pool = project.start("deploy_pool", "--yes")
    until(lambda: len(project.ran()) == 10, "some results")
    assert "outside a job" not in project.run("start_queue", "--as-job").out  # it runs
    project.run("stop_queue", "--force")
    said = project.run("start_queue", "--as-job", "--hours", "1")
    first = project.record()
    assert first.job_id in said.out
    (project.folder / "first").touch()
    until(lambda: len(project.ran()) == 20, "more results")
    kill(first)
    jobs = ["squeue", "--noheader", f"--jobs={first.job_id}", "--states=running"]
    until(lambda: on_slurm.run(*jobs) == "", "the job's end")
    project.run("start_queue", "--as-job")
    (project.folder / "second").touch()
    assert project.record().job_id not in ("", first.job_id)
    assert pool.wait(250) == 0
    project.check(30)
    project.run("stop_queue")
    assert project.record().has_ended
    assert is_surely_dead(project.record().process)
    until(lambda: "RUNNING" not in on_slurm.states().values(), "the end of the job")
