"""``poe pause``: let no task start until ``poe resume``."""

from collections.abc import Sequence

from taskfleet.api.steering import set_paused
from taskfleet.invocation import poe
from taskfleet.terminal.arguments import configure, make_parser

EXAMPLES = """\
  poe pause
  poe resume"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "pause",
        "Running tasks finish. Workers then end, or wait with KEEP_WAITING; a pool launches no machines.",
        EXAMPLES,
    )
    configuration = configure(parser.parse_args(argv))
    job_id = configuration.settings.job_id
    if set_paused(configuration, True):
        print(
            f"Job {job_id} is paused: no task starts until {poe('resume')}. Running tasks finish; "
            f"{poe('cancel --state running')} stops them."
        )
    else:
        print(f"Job {job_id} is paused already. Nothing was changed.")
    return 0
