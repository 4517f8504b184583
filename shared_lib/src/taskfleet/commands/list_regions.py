"""``poe list_regions``: where machines can be had."""

import json
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.commands.offer_table import listing_provider
from taskfleet.settings.declaring import OWN_GROUPS
from taskfleet.text import columns

EXAMPLES = """\
  poe list_regions
  poe list_regions --provider gcp --project-id my-project
  poe list_regions --prefix eu-"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "list_regions",
        "List the provider's regions, each with its zones.",
        EXAMPLES,
        ("provider", "location", *OWN_GROUPS),
    )
    parser.add_argument("--prefix", default="", metavar="TEXT", help="only regions that begin so")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    provider = listing_provider(configuration)
    found = [
        (region, zones) for region, zones in provider.regions(configuration) if region.startswith(arguments.prefix)
    ]
    if arguments.json:
        for region, zones in found:
            print(json.dumps({"region": region, "zones": zones}))
        return 0
    if not found:
        print(f"{provider.title} has no region that begins with {arguments.prefix!r}.")
        return 0
    print(columns([(region, " ".join(zones)) for region, zones in found], ("region", "zones")))
    print("\nNext: REGIONS=… in config/pool.env, then poe list_instance_types")
    return 0
