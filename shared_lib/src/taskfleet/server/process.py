"""The processes of a server: started in the background, stopped in order."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from taskfleet.errors import CommandError
from taskfleet.files import open_private
from taskfleet.processes.identity import is_surely_dead, pid_of
from taskfleet.server.binaries import environment, user_options

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: A worker has four, of some 2 MB each.
MAX_CONNECTIONS = 2000
STOP_SECONDS = 120.0


def spawn(programs: Path, data: Path, log: Path, addresses: Sequence[str], port: int) -> subprocess.Popen[bytes]:
    """Start a server that outlives this process; it may fail soon.

    Raises:
        CommandError: The program cannot be run, or the log not be written.
    """
    settings = {
        "listen_addresses": ",".join(addresses),
        "port": port,
        "unix_socket_directories": "",
        "max_connections": MAX_CONNECTIONS,
        "max_wal_size": "256MB",
        "max_parallel_workers_per_gather": 0,
        "jit": "off",
        "tcp_keepalives_idle": 60,
        "log_min_error_statement": "panic",  # statements have the users' data
        "log_checkpoints": "off",
    }
    arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    held = _hold(data)
    try:
        with open(log, "ab", opener=open_private) as output:
            return subprocess.Popen(
                [programs / "postgres", "-D", data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=data.parent,
                env=environment(),
                start_new_session=True,
                pass_fds=held,
                **user_options(),
            )
    except OSError as error:
        raise CommandError(
            f"The queue's server cannot be started: {error.strerror or error}. Its log is {log}."
        ) from error
    finally:
        for fd in held:
            os.close(fd)


def _hold(data: Path) -> tuple[int, ...]:
    """Return a descriptor of the folder of the data, shared-locked for as long as any process has it.

    So ``wait_until_unused`` knows, and systemd, which deletes old files in /var/tmp, leaves them there.
    """
    with suppress(OSError):
        fd = os.open(data.parent, os.O_RDONLY)
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return (fd,)
    return ()


def wait_until_unused(data: Path) -> bool:
    """Wait until all processes of the last server have ended: when it is killed, they end a little later.

    Returns:
        Whether that is certain; on some network file systems it is not.

    Raises:
        CommandError: They do not end.
    """
    fd = os.open(data.parent, os.O_RDONLY)
    deadline = time.monotonic() + STOP_SECONDS
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.1)
            except OSError:  # some network file systems lock no folders
                return False
    finally:
        os.close(fd)
    raise CommandError(
        f"Processes of the last server still use {data}, although it does not answer. Stop them (fuser -v {data.parent}), and try again."
    )


def stop(process: str) -> None:
    """Stop a server of this host in order, and wait for its end.

    Args:
        process: See ``ServerRecord.process``.

    Raises:
        CommandError: It does not end.
    """
    deadline = time.monotonic() + STOP_SECONDS
    if not is_surely_dead(process):
        with suppress(ProcessLookupError):
            os.kill(int(pid_of(process)), signal.SIGINT)  # "fast": ends sessions, and writes everything to disk
    while not is_surely_dead(process):
        if time.monotonic() > deadline:
            raise CommandError(
                f"The queue's server (process {pid_of(process)}) has not ended within {STOP_SECONDS:g} s."
            )
        time.sleep(0.1)


def free_port(addresses: Sequence[str], wanted: int = 0) -> int:
    """Return a port that is free on all addresses, the wanted one if possible.

    Raises:
        CommandError: An address is not one of this computer.
    """
    for port in (wanted, 0) if wanted else (0, 0, 0, 0):
        sockets: list[socket.socket] = []
        try:
            for address in addresses:
                one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                sockets.append(one)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((address, port))
                port = one.getsockname()[1]
            return port
        except OSError as error:
            failed, problem = address, error
        finally:
            for one in sockets:
                one.close()
    raise CommandError(
        f"The queue's server cannot listen on {failed}: {problem.strerror or problem}. It must be an address of this computer."
    )


def last_errors(log: Path) -> str:
    """Return the errors at the end of a server's log in one line."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return " ".join(
        line.partition("]")[2].strip() for line in lines[-5:] if re.search("FATAL|PANIC|could not|HINT", line)
    )
