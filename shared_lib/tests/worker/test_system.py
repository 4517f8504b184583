"""What stands in where the system lacks something, and that everything can be imported there."""

import os
import socket
import subprocess
import sys
import textwrap

import pytest
from taskfleet.processes import linux
from taskfleet.processes.memory import memory_bytes
from taskfleet.processes.sockets import receive_socket, send_socket
from taskfleet.processes.tree import children_of, process_table
from taskfleet.worker.shared_file import SharedFile


@pytest.fixture
def hog():
    """A process with one child that holds 300 MiB."""
    code = "x = bytearray(b'x') * (300 << 20); print('ready', flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.communicate(b"\n", timeout=30)


@pytest.mark.parametrize("has_proc", [True, False])
def test_memory_is_that_of_all_below_but_those_spared(hog, monkeypatch, has_proc):
    monkeypatch.setattr(linux, "HAS_PROC", has_proc)
    (child,) = children_of(hog.pid)
    assert 300 << 20 <= memory_bytes(hog.pid, enough=1 << 40) < 400 << 20
    assert memory_bytes(hog.pid, enough=1 << 40, spare=frozenset([child])) == 0
    whole = memory_bytes(os.getpid(), enough=1 << 40)
    assert 300 << 20 <= memory_bytes(os.getpid(), enough=1 << 40, spare=frozenset([hog.pid])) < whole
    assert hog.pid in children_of(os.getpid())
    assert memory_bytes(child, enough=0) == 0


def test_the_table_of_processes_has_us_and_not_the_program_that_made_it():
    table = process_table()
    assert table[os.getpid()].parent == os.getppid()
    assert table[os.getpid()].rss_bytes > 1 << 20
    assert set(children_of(os.getpid())) >= {pid for pid, row in table.items() if row.parent == os.getpid()}


def test_a_socket_is_passed_to_another_process():
    ours, theirs = socket.socketpair()
    one, other = socket.socketpair()
    with ours, theirs, one:
        send_socket(ours, other, os.getpid())
        other.close()
        with receive_socket(theirs) as received:
            received.send(b"hello")
            assert one.recv(10) == b"hello"
        ours.close()
        assert receive_socket(theirs) is None


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_shared_file_has_no_name_and_is_not_inherited(monkeypatch, tmp_path, in_memory):
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    file = SharedFile("test")
    os.write(file.fd, b"x")
    assert os.fstat(file.fd).st_nlink == 0
    assert not os.get_inheritable(file.fd)
    assert list(tmp_path.iterdir()) == []
    os.close(file.fd)


WITHOUT_POSIX = """
    import importlib, os, pkgutil, select, signal, socket, subprocess, sys
    import multiprocessing.connection, multiprocessing.reduction, multiprocessing.spawn, multiprocessing.popen_spawn_posix
    import tempfile, asyncio, concurrent.futures, ctypes, sqlite3, pandas, pyarrow, dotenv, yaml, tqdm
    import psycopg, boto3, grpc, google.pubsub_v1, google.auth.transport.grpc, moto.server

    class Nowhere:
        def find_spec(self, name, path=None, target=None):
            if name in ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty"):
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Nowhere())
    for name in ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty"):
        sys.modules.pop(name, None)
    missing = {
        os: "fork register_at_fork setsid killpg wait4 waitid WNOHANG WUNTRACED pidfd_open memfd_create pread geteuid getuid "
        "sched_getaffinity P_PID WEXITED WNOWAIT",
        select: "poll POLLIN POLLOUT",
        signal: "SIGHUP SIGKILL SIGCHLD SIGALRM SIGSTOP SIGCONT alarm pthread_sigmask",
        socket: "send_fds recv_fds AF_UNIX",
    }
    for module, names in missing.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    sys.platform = "win32"

    import taskfleet
    n = 0
    for found in pkgutil.walk_packages(taskfleet.__path__, "taskfleet."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            n += 1
    from taskfleet.settings import fields
    print(n, fields.start_method("auto"))
"""


def test_everything_can_be_imported_where_there_is_no_posix():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_POSIX)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    n, method = done.stdout.split()
    assert int(n) > 60
    assert method == "spawn"
