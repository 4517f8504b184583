"""``poe teardown``: remove everything created for the pool, and verify that nothing is left."""

from collections.abc import Sequence

from taskfleet.api.machines import existing, teardown
from taskfleet.pool.job_machines import providers_of
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.hints import next_steps
from taskfleet.terminal.prompts import confirm
from taskfleet.text import columns, counted

EXAMPLES = """\
  poe teardown
  poe teardown --yes
  poe teardown --dry-run                            only list the machines"""

DETAILS = (
    "All machines of the job are terminated, and all resources that were created for them are deleted, until the provider lists none. The "
    "remaining number of each kind of resource is printed. No ledger is needed."
)


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("teardown", DETAILS, EXAMPLES)
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    parser.add_argument("--dry-run", action="store_true", help="list the machines, terminate nothing")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    job_id = configuration.settings.job_id
    found, has_ledger = existing(configuration)
    if found:
        rows = [(one.instance_id, one.instance_type, one.zone, str(one.state)) for one in found]
        print(columns(rows, ("machine", "type", "zone", "state")))
    if arguments.dry_run:
        print(f"Job {job_id} has {counted(len(found), 'machine')}. Nothing was terminated (--dry-run).")
        return 0
    if found:
        warning = (
            ""
            if has_ledger
            else " This job has no ledger here: the machines may belong to another user's job of this name."
        )
        confirm(
            f"This terminates {counted(len(found), 'machine')} of job {job_id}.{warning}", job_id, yes=arguments.yes
        )
    left = teardown(configuration)
    providers = ", ".join(dict.fromkeys(one.name for one in providers_of(configuration)))
    print(f"{counted(len(found), 'machine')} terminated. Remaining resources of job {job_id} (PROVIDER={providers}):")
    for kind, number in left.items():
        print(f"  {kind}: {number}")
    print(f"\nThe tasks and their results are kept.\n\n{next_steps('status', ('delete_queue', 'deletes the job'))}")
    return 0
