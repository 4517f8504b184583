"""``poe stop_queue``: stop the project's own PostgreSQL server."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskfleet.errors import WrongSettingError
from taskfleet.extras import require
from taskfleet.settings import Configuration
from taskfleet.settings.parsers import SERVER
from taskfleet.terminal.arguments import configure, make_parser

if TYPE_CHECKING:
    from taskfleet.api.queue_server import Stopped

EXAMPLES = """\
  poe stop_queue
  poe stop_queue --force     although workers are connected"""

DETAILS = "Its data are saved in the project's folder; start_queue continues with them, also on another computer."


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("stop_queue", DETAILS, EXAMPLES)
    parser.add_argument("--force", action="store_true", help="stop it although workers are connected; they wait for it")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    require("psycopg", f"QUEUE_URL={SERVER}")
    stopped = _stop_job(configuration, arguments.force)
    if stopped is None:
        from taskfleet.api.queue_server import stop_queue

        stopped = stop_queue(configuration, force=arguments.force)
    state = "stopped" if stopped.was_running else "not running any more"
    print(f"The queue's server is {state}. Its data are in {stopped.place}.")
    return 0


def _stop_job(configuration: Configuration, force: bool) -> "Stopped | None":
    from taskfleet.api.queue_job import stop_queue_job

    try:
        return stop_queue_job(configuration, force=force)
    except WrongSettingError:  # there is no Slurm here, and so no job
        return None
