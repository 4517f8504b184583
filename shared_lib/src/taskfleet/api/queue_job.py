"""The project's own PostgreSQL server in a batch job of its own, with its data in the project's folder."""

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from taskfleet.api.queue_server import Started, Stopped, check_settings, started
from taskfleet.errors import CommandError, SettingsError, UnreachableError
from taskfleet.files import make_private_folder
from taskfleet.invocation import poe
from taskfleet.machines.provider import provider_of
from taskfleet.machines.slurm.services import ServiceJob
from taskfleet.queues.own_server import ServerRecord, read_record
from taskfleet.server.binaries import find_programs
from taskfleet.server.process import STOP_SECONDS
from taskfleet.server.running import answers, refuse_clients
from taskfleet.settings import Configuration
from taskfleet.settings.parsers import SERVER

_POLL_SECONDS = 2.0
#: Slurm's controller is asked for the job's state this often.
_STATE_SECONDS = 60.0


def start_queue_job(
    configuration: Configuration,
    *,
    hours: float | None = None,
    listen: Sequence[str] = (),
    from_system: bool = False,
    say: Callable[[str], None],
) -> Started:
    """Submit a batch job with the server, wait until it answers, and set QUEUE_URL for the project.

    The data are in the project's folder, so they survive the job, however it ends. A job that exists already is waited for.

    Args:
        configuration: The settings.
        hours: The time limit of the job; None for LIFETIME_HOURS.
        listen: See ``start_queue``.
        from_system: See ``start_queue``.
        say: Called with messages for the user.

    Raises:
        SettingsError: See ``start_queue``; or PROVIDER is not a batch system.
        CommandError: The job ended before the server answered, or a server outside a job is not stopped.
        ProviderError: Slurm does not accept the job.
    """
    if not _is_batch_system(configuration):
        raise SettingsError(
            f"--as-job submits a batch job to Slurm, and PROVIDER={configuration.pool.provider}. Set PROVIDER=slurm in config/pool.env."
        )
    check_settings(configuration)
    find_programs(from_system=from_system, version=None)
    folder = configuration.server_folder
    make_private_folder(folder)
    record = read_record(folder)
    if record is not None and answers(record):
        return started(configuration, record, was_running=True)
    if record is not None and not record.has_ended and not record.job_id:
        raise CommandError(
            f"The last server was started on {record.hostname}, outside a job, and has the queue's data there. Run "
            f"{poe('stop_queue')} there first, which saves them in the project's folder."
        )
    service = _service(configuration)
    if found := service.find():
        job_id, state = found
        say(f"Job {job_id} with the queue's server exists: {state}.")
    else:
        options = [
            *(word for address in listen for word in ("--listen", address)),
            *(["--system"] if from_system else []),
        ]
        if record is not None and not record.has_ended:  # of a job that Slurm no longer has
            options.append("--take-over")
        command = [sys.executable, "-P", "-m", "taskfleet", "start_queue", "--wait", "--data", str(folder), *options]
        job_id = service.submit(
            command,
            hours=hours or configuration.pool.lifetime_hours,
            files=folder / "job",
            environment={"QUEUE_URL": SERVER},
        )
        say(f"Submitted job {job_id} with the queue's server.")
    say("Waiting until it runs. Ctrl-C ends only this command; the job stays.")
    return started(configuration, _await(configuration, service, job_id), was_running=False)


def stop_queue_job(configuration: Configuration, *, force: bool = False) -> Stopped | None:
    """Stop the server's batch job in order; return None if there is none.

    Args:
        configuration: The settings.
        force: See ``stop_queue``.

    Raises:
        CommandError: Clients are connected, or the job does not end.
    """
    service = _service(configuration)
    if not _is_batch_system(configuration) or (found := service.find()) is None:
        return None
    job_id, _ = found
    record = read_record(configuration.server_folder)
    has_started = record is not None and record.job_id == job_id and not record.has_ended
    if record is not None and has_started and not force:
        refuse_clients(record)
    service.cancel(job_id)
    place = Path(record.data) if record is not None and record.job_id else configuration.server_folder
    deadline = time.monotonic() + STOP_SECONDS
    while has_started and (now := read_record(configuration.server_folder)) is not None and not now.has_ended:
        if time.monotonic() > deadline:
            raise CommandError(
                f"Job {job_id} was cancelled, and the queue's server has not said that it ended. Its data are in {place}; nothing is lost."
            )
        time.sleep(0.5)
    return Stopped(place=place, was_running=has_started)


def _is_batch_system(configuration: Configuration) -> bool:
    return provider_of(configuration).batch_jobs(configuration) is not None


def _service(configuration: Configuration) -> ServiceJob:
    name = hashlib.sha256(str(configuration.server_folder.resolve()).encode()).hexdigest()[:8]
    return ServiceJob(configuration, f"queue-{configuration.project.name}-{name}")


def _await(configuration: Configuration, service: ServiceJob, job_id: str) -> ServerRecord:
    """Return the server's record when it answers.

    Raises:
        CommandError: The job has ended before.
    """
    folder = configuration.server_folder
    asked_at = time.monotonic()
    while True:
        record = read_record(folder)
        if record is not None and record.job_id == job_id and answers(record):
            return record
        if time.monotonic() - asked_at > _STATE_SECONDS:
            asked_at = time.monotonic()
            try:
                found = service.find()
            except UnreachableError:
                continue
            if found is None or found[0] != job_id:
                raise CommandError(
                    f"Job {job_id} has ended, and its server did not answer. What it printed is in {folder / 'job.out'}, the server's "
                    f"log in {folder / 'log'}."
                )
        time.sleep(_POLL_SECONDS)
