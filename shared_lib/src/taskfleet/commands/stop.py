"""``poe stop``: terminate all machines of the job."""

from collections.abc import Sequence

from taskfleet.api.machines import stop
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps
from taskfleet.terminal.prompts import confirm

EXAMPLES = """\
  poe stop
  poe stop --yes"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "stop",
        "A running poe deploy_pool of the job ends too. Running tasks return to the queue; no task is lost.",
        EXAMPLES,
    )
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    job_id = configuration.settings.job_id
    confirm(f"This terminates all machines of job {job_id}.", job_id, yes=arguments.yes)
    stop(configuration, say=print)
    print(f"All machines are terminated.\n\n{next_steps(('deploy_pool', 'to continue'), 'status')}")
    return 0
