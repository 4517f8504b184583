"""``poe delete_queue``: delete the job."""

from collections.abc import Sequence

from taskfleet.api.queue import check_delete, delete, results_folder
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.prompts import confirm

EXAMPLES = """\
  poe delete_queue
  poe delete_queue --yes"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("delete_queue", "All its tasks, results and failures are deleted.", EXAMPLES)
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.add_argument(
        "--force", action="store_true", help="delete even if workers are running or the ledger is damaged"
    )
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    path, job_id = configuration.ledger_path, configuration.settings.job_id
    what = f"This deletes job {job_id} and all of {path}."
    if not arguments.force:
        found = check_delete(configuration)
        what = (
            f"This deletes job {job_id} with {found.tasks:,} tasks, {found.ended:,} of them ended, and their results."
        )
    folder = results_folder(configuration)
    if folder is not None:
        what += f" The folder of its large results is deleted too: {folder}."
    confirm(what, job_id, yes=arguments.yes)
    existed = delete(configuration)
    print(f"Deleted {path}." if existed else f"{path} does not exist.")
    if folder is not None:
        print(f"Deleted {folder}.")
    return 0
