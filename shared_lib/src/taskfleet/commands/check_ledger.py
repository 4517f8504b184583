"""``poe check_ledger``: verify the job's ledger."""

import json
from collections.abc import Sequence

from taskfleet.api.checking import check_ledger
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.text import harmless

EXAMPLES = """\
  poe check_ledger
  poe check_ledger --json | jq 'select(.ok | not)'"""

DETAILS = """\
The check changes nothing and can run at any time; ten million tasks take a minute or two. It covers the file (SQLite's integrity check),
its tables and references, the states of tasks, all counts, and the result of each successful task. The exit code is 1 if anything is wrong.
On a network file system, workers wait while the ledger is read."""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("check_ledger", DETAILS, EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print one JSON object per check")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    is_sound = True
    for check in check_ledger(configuration):
        is_sound &= check.is_ok
        if arguments.json:
            print(json.dumps(check.to_json()), flush=True)
        else:
            lines = [f"{check.name}: {'OK' if check.is_ok else 'WRONG'}", *(f"  {text}" for text in check.problems)]
            print("\n".join(harmless(line) for line in lines), flush=True)
    if not is_sound and not arguments.json:
        path = configuration.ledger_path
        print(f"\n{path} is damaged. Keep a copy of it with the files beside it, and restore it from a backup.")
    return 0 if is_sound else 1
