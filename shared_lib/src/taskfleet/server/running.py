"""The server of a project as a whole: whether it runs, where its data are, and how it is started from them."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from taskfleet.errors import CommandError, UnreachableError
from taskfleet.files import make_private_folder, open_private
from taskfleet.invocation import poe
from taskfleet.processes.identity import host, identity, is_surely_dead, pid_of
from taskfleet.queues.own_server import ServerRecord, ask, write_record
from taskfleet.server.data import version_of
from taskfleet.server.process import free_port, last_errors, spawn, stop, wait_until_unused

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: How long a server may take until it answers; after a crash it first repeats the last minutes' changes.
START_SECONDS = 120.0
#: How often a server is started that ends at once, because its port is no longer free, or the last one not quite gone.
_ATTEMPTS = 10
_CLIENTS = (
    "SELECT coalesce(host(client_addr), 'this host'), count(*) FROM pg_stat_activity "
    "WHERE usename = current_user AND application_name <> 'taskfleet-admin' AND backend_type = 'client backend' GROUP BY 1 ORDER BY 1"
)


def saved_path(folder: Path) -> Path:
    """Return the path of the file with the data of a server that was stopped."""
    return folder / "data.tar.gz"


def log_path(folder: Path) -> Path:
    """Return the path of a server's log."""
    return folder / "log"


@contextmanager
def locked(folder: Path, *, waits: bool = False) -> Iterator[None]:
    """Keep other processes from starting or stopping the server meanwhile."""
    try:
        make_private_folder(folder)
        fd = open_private(folder / "lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise CommandError(f"The folder {folder} of the queue's server cannot be used: {error.strerror}.") from error
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        yield
    except BlockingIOError:
        raise CommandError(
            "Another command is starting or stopping the queue's server. Try again when it has ended."
        ) from None
    finally:
        os.close(fd)


def answers(record: ServerRecord) -> bool:
    """Return whether the server answers."""
    if record.has_ended:
        return False
    try:
        ask(record, "SELECT 1")
    except UnreachableError:
        return False
    return True


def refuse_clients(record: ServerRecord) -> None:
    """Check that nobody is connected to a server that runs.

    Raises:
        CommandError: Workers or other clients are.
    """
    if clients := ask(record, _CLIENTS):
        places = ", ".join(f"{address} ({n})" for address, n in clients)
        raise CommandError(
            f"Workers or commands are connected to the queue's server, from {places}. Stop them first ({poe('stop')}, or Ctrl-C), or "
            "stop the server nevertheless with --force: they wait until it is started again. Nothing was changed."
        )


def is_running(record: ServerRecord) -> bool:
    """Return whether the server answers, perhaps after a while.

    Raises:
        CommandError: Its process exists, and does not answer.
    """
    deadline = time.monotonic() + START_SECONDS
    while not answers(record):
        if record.has_ended or record.host != host() or is_surely_dead(record.process):
            return False
        if time.monotonic() > deadline:
            raise CommandError(
                f"The queue's server (process {pid_of(record.process)}) does not answer at {', '.join(record.addresses)}. Stop it, and "
                f"start it again: {poe('stop_queue --force')}"
            )
        time.sleep(0.5)
    return True


def find_data(folder: Path, record: ServerRecord, *, takes_over: bool, say: Callable[[str], None]) -> Path | None:
    """Return the folder of the data of a server that does not answer; None if they were saved, or are given up.

    Raises:
        CommandError: The server may still run, or its data are elsewhere.
    """
    data, is_here = Path(record.data), record.hostname == host().partition("/")[0]
    if record.has_ended and saved_path(folder).exists():
        return None
    is_found = version_of(data) is not None
    if not (is_here or record.has_ended or takes_over):
        raise CommandError(
            f"The queue's server was started on {record.hostname} and does not answer; its data are there, in {data}. Start it there: "
            f"ssh {record.hostname}, change to the project's folder, and run {poe('start_queue')}. Only if that host is gone for good, "
            f"begin here with an empty one ({poe('start_queue --take-over')}), then send the unfinished tasks to it ({poe('release')})."
        )
    if is_found:
        if wait_until_unused(data) or record.host != host():
            # PostgreSQL would take a process that has this number by now, or is not reaped yet, for that of the last server.
            (data / "postmaster.pid").unlink(missing_ok=True)
        say("Using the data of the last server")
        return data
    if takes_over:
        return None
    raise CommandError(
        f"The data of the queue's server are gone: {data} does not exist. Begin with an empty one, {poe('start_queue --take-over')}, then "
        f"send the unfinished tasks to it: {poe('release')}"
    )


def launch(folder: Path, record: ServerRecord, programs: Path, data: Path) -> ServerRecord:
    """Start the server, and return its record when it answers.

    Raises:
        CommandError: It does not start.
    """
    log = log_path(folder)
    deadline = time.monotonic() + START_SECONDS
    for _ in range(_ATTEMPTS):
        process = spawn(programs, data, log, record.addresses, record.port)
        record = replace(record, process=identity(process.pid))
        write_record(folder, record)
        while process.poll() is None and time.monotonic() < deadline:
            if answers(record):
                process.returncode = 0  # it outlives this process, which Python would warn of
                return record
            time.sleep(0.1)
        if process.poll() is None:
            stop(record.process)
            break
        if not re.search("in use|lock file", last_errors(log)):
            break
        time.sleep(0.5)
        record = replace(record, port=free_port(record.addresses, record.port))
    raise CommandError(
        f"The queue's server does not start: {last_errors(log) or 'it does not answer.'} Its log is {log}."
    )
