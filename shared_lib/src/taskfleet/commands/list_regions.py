"""``poe list_regions``: list the provider's regions."""

import json
from collections.abc import Sequence

from taskfleet.api.planning import regions
from taskfleet.invocation import poe
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.text import columns

EXAMPLES = """\
  poe list_regions
  poe list_regions --provider gcp --project-id my-project
  poe list_regions --prefix eu-"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("list_regions", "Their zones are included.", EXAMPLES)
    parser.add_argument("--prefix", default="", metavar="TEXT", help="only regions that start with TEXT")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args(argv)
    found = [one for one in regions(configure(arguments)) if one[0].startswith(arguments.prefix)]
    if arguments.json:
        for region, zones in found:
            print(json.dumps({"region": region, "zones": zones}))
        return 0
    if not found:
        print(f"No region starts with {arguments.prefix!r}.")
        return 0
    print(columns([(region, " ".join(zones)) for region, zones in found], ("region", "zones")))
    print(f"\nNext: set REGIONS in config/pool.env, then {poe('list_instance_types')}")
    return 0
