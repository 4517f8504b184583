"""Start and stop the project's own PostgreSQL server, for QUEUE_URL=server."""

import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from taskfleet.errors import CommandError, LedgerError, SettingsError
from taskfleet.invocation import poe
from taskfleet.ledger import queries
from taskfleet.ledger.database import open_ledger
from taskfleet.machines.provider import provider_of
from taskfleet.processes.identity import host, is_surely_dead
from taskfleet.queues.addresses import is_remote, redact_url
from taskfleet.queues.own_server import ServerRecord, read_record, write_record
from taskfleet.server.addresses import addresses_towards
from taskfleet.server.binaries import find_programs
from taskfleet.server.data import LOCAL_DISK, initialize, is_inside, new_folder, restore, save, version_of
from taskfleet.server.process import free_port, last_errors, stop
from taskfleet.server.running import (
    answers,
    find_data,
    is_running,
    launch,
    locked,
    log_path,
    refuse_clients,
    saved_path,
)
from taskfleet.settings import DEFAULT_FILE, Configuration
from taskfleet.settings.editing import set_in_file
from taskfleet.settings.parsers import SERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A server that runs."""

    record: ServerRecord
    was_running: bool
    setting_changed: Path | None
    """The file in which QUEUE_URL was set; None if that was not necessary."""
    has_tasks_elsewhere: bool
    """Whether the job has tasks in the queue of its ledger, which can be moved."""


def start_queue(
    configuration: Configuration,
    *,
    listen: Sequence[str] = (),
    data: Path | None = None,
    from_system: bool = False,
    takes_over: bool = False,
    say: Callable[[str], None],
) -> Started:
    """Start the server of a project on this computer, and set QUEUE_URL for the project; a server that runs stays as it is.

    Args:
        configuration: The settings.
        listen: The addresses of this computer at which it listens; empty to choose those that workers can reach.
        data: The folder, on a local disk, in which to make the folder of its data.
        from_system: Use the PostgreSQL that is installed on the system.
        takes_over: The host of the last server is gone: use its data if they are here, or else begin without any.
        say: Called with messages for the user.

    Raises:
        SettingsError: QUEUE_URL is set to another queue, or the machines of PROVIDER cannot reach a server here.
        CommandError: The server cannot be started, or the data of the last one are elsewhere.
        MissingPackageError: A package is not installed.
    """
    check_settings(configuration)
    folder = configuration.server_folder
    with locked(folder):
        record = read_record(folder)
        if record is not None and is_running(record):
            return started(configuration, record, was_running=True)
        path = None if record is None else find_data(folder, record, takes_over=takes_over, say=say)
        is_saved = record is not None and path is None and saved_path(folder).exists()
        has_data = path is not None or is_saved
        programs, version = find_programs(
            from_system=from_system, version=record.version if record and has_data else None
        )
        addresses = tuple(listen) or addresses_towards(
            provider_of(configuration).worker_hosts(configuration) or ("127.0.0.1",)
        )
        password = record.password if record else secrets.token_urlsafe(24)
        port = free_port(addresses, record.port if record else 0)
        if path is None:
            path = new_folder(data or LOCAL_DISK)
            if is_saved:
                say("Restoring the data that were saved")
                restore(saved_path(folder), path)
            else:
                say("Making an empty database")
                initialize(path, programs, password)
        new = ServerRecord(
            host=host(),
            process="",
            addresses=addresses,
            port=port,
            password=password,
            data=str(path),
            version=version,
            job_id=os.environ.get("SLURM_JOB_ID", "") if is_inside(path, folder) else "",
        )
        record = launch(folder, new, programs, path)
        saved_path(folder).unlink(missing_ok=True)
        return started(configuration, record, was_running=False)


def started(configuration: Configuration, record: ServerRecord, *, was_running: bool) -> Started:
    """Set QUEUE_URL for the project, and return what is to be said of a server that answers."""
    return Started(
        record=record,
        was_running=was_running,
        setting_changed=_set_queue_url(configuration),
        has_tasks_elsewhere=_has_tasks_elsewhere(configuration),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A server that was stopped."""

    place: Path
    """Where its data are."""
    was_running: bool


def stop_queue(configuration: Configuration, *, force: bool = False) -> Stopped:
    """Stop the server of a project in order, and save its data in the project's folder.

    Args:
        configuration: The settings.
        force: Stop it although clients are connected; workers wait for it to be started again.

    Raises:
        CommandError: There is none, it runs on another host, workers or other clients are connected, or the data cannot be saved.
    """
    folder = configuration.server_folder
    with locked(folder):
        record = read_record(folder)
        if record is None or record.has_ended:
            raise CommandError(f"The queue's server does not run. Start it: {poe('start_queue')}")
        if record.hostname != host().partition("/")[0]:
            raise CommandError(
                f"The queue's server is on {record.hostname}, and can be stopped only there: ssh {record.hostname}, change to "
                f"{configuration.project}, and run {poe('stop_queue')}"
            )
        was_running = answers(record)
        if was_running and not force:
            refuse_clients(record)
        if record.host == host():
            stop(record.process)
        elif was_running:
            raise CommandError(
                f"The queue's server runs in another container of this host. Run {poe('stop_queue')} there. Nothing was changed."
            )
        data = Path(record.data)
        if version_of(data) is None:
            raise CommandError(
                f"The queue's server has ended, and its data in {data} are gone. Start an empty one with "
                f"{poe('start_queue --take-over')}, and send the unfinished tasks to it with {poe('release')}"
            )
        if is_inside(data, folder):
            place = data
            write_record(folder, replace(record, has_ended=True))
        else:
            place = saved_path(folder)
            save(data, place)
            write_record(folder, replace(record, has_ended=True))
            shutil.rmtree(data.parent, ignore_errors=True)
        return Stopped(place=place, was_running=was_running)


def wait_for_server(configuration: Configuration, record: ServerRecord) -> Stopped:
    """Wait until this process is told to end (SIGTERM, Ctrl-C), and stop the server; raises CommandError if it ends by itself."""
    ended = False

    def end(number: int, frame: object) -> None:  # noqa: ARG001
        nonlocal ended
        ended = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while not ended:
            if is_surely_dead(record.process):
                with locked(configuration.server_folder, waits=True):  # of another process that stops it
                    current = read_record(configuration.server_folder)
                if current is not None and current.has_ended:
                    return Stopped(place=saved_path(configuration.server_folder), was_running=True)
                raise CommandError(
                    f"The queue's server has ended by itself. {last_errors(log_path(configuration.server_folder))} Start it again: "
                    f"{poe('start_queue')}"
                )
            time.sleep(0.5)
        return stop_queue(configuration, force=True)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_settings(configuration: Configuration) -> None:
    """Check that a server can be used with the settings.

    Raises:
        SettingsError: QUEUE_URL is set to another queue, or machines of PROVIDER cannot reach a server on this computer.
    """
    url, place = configuration.settings.queue_url, configuration.places.get("QUEUE_URL", "")
    if url != SERVER and (is_remote(url) or (place and not _is_in_file(configuration))):
        raise SettingsError(
            f"QUEUE_URL={redact_url(url)} is set in {place}. Set QUEUE_URL={SERVER} there, to use a server that "
            f"{poe('start_queue')} starts."
        )
    provider = provider_of(configuration)
    if not provider.shares_file_system:
        raise SettingsError(
            f"PROVIDER={provider.name}: machines cannot reach a server on this computer. Use a service queue: "
            f"QUEUE_URL={provider.example_queue_url} in config/task.env."
        )


def _is_in_file(configuration: Configuration) -> bool:
    return configuration.places.get("QUEUE_URL", "").startswith(str(configuration.project / DEFAULT_FILE))


def _has_tasks_elsewhere(configuration: Configuration) -> bool:
    path, job_id = configuration.ledger_path, configuration.settings.job_id
    with suppress(LedgerError), closing(open_ledger(path, job_id=job_id, read_only=True)) as database:
        return database.value("SELECT queue_url FROM job") is None and queries.was_inserted(database)
    return False


def _set_queue_url(configuration: Configuration) -> Path | None:
    if configuration.settings.queue_url == SERVER:
        return None
    path = configuration.project / DEFAULT_FILE
    set_in_file(path, "QUEUE_URL", SERVER)
    return path
