"""``poe list_regions``: list the provider's regions."""

import json
from collections.abc import Callable, Sequence

from taskfleet.api.planning import regions
from taskfleet.invocation import poe
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.listing import add_listing, arrange, limited, print_left_out, print_none
from taskfleet.text import columns

EXAMPLES = """\
  poe list_regions
  poe list_regions --provider gcp --project-id my-project
  poe list_regions --prefix eu-
  poe list_regions --filter west --sort-by -region"""

FIELDS: dict[str, Callable[[tuple[str, Sequence[str]]], str | Sequence[str]]] = {
    "region": lambda one: one[0],
    "zones": lambda one: one[1],
}


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("list_regions", "Each region is listed with its zones.", EXAMPLES)
    parser.add_argument("--prefix", default="", metavar="TEXT", help="list only regions whose name starts with TEXT")
    add_listing(parser, FIELDS, order="region")
    parser.add_argument("--detail", action="store_true", help="print one line per zone")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args(argv)
    known = [one for one in regions(configure(arguments)) if one[0].startswith(arguments.prefix)]
    found = arrange(known, arguments, FIELDS)
    shown = limited(found, arguments)
    if arguments.json:
        for region, zones in shown:
            print(json.dumps({"region": region, "zones": zones}))
        return 0
    if not shown:
        print_none("region", arguments, "prefix", "filter")
        return 0
    if arguments.detail:
        print(columns([(region, zone) for region, zones in shown for zone in zones], ("region", "zone")))
    else:
        print(columns([(region, " ".join(zones)) for region, zones in shown], ("region", "zones")))
    print_left_out(found, shown)
    print(f"\nNext: set REGIONS in config/pool.env, then {poe('list_instance_types')}")
    return 0
