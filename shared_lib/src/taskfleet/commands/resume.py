"""``poe resume``: let tasks start again after ``poe pause``."""

from collections.abc import Sequence

from taskfleet.api.steering import set_paused
from taskfleet.invocation import poe
from taskfleet.terminal.arguments import configure, make_parser

EXAMPLES = """\
  poe resume"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("resume", "Workers that have ended meanwhile have to be started again.", EXAMPLES)
    configuration = configure(parser.parse_args(argv))
    job_id = configuration.settings.job_id
    if set_paused(configuration, False):
        print(f"Job {job_id} is resumed. Start a worker if none is running: {poe('launch_worker')}")
    else:
        print(f"Job {job_id} is not paused. Nothing was changed.")
    return 0
