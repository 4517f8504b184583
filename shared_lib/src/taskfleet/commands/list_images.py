"""``poe list_images``: the systems that machines can boot."""

import dataclasses
import json
import time
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.commands.offer_table import listing_provider
from taskfleet.settings.declaring import OWN_GROUPS
from taskfleet.text import columns

EXAMPLES = """\
  poe list_images
  poe list_images --regions eu-west-1 --architecture arm64"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "list_images",
        "List the current images of Ubuntu, Debian and the provider's own system.",
        EXAMPLES,
        ("provider", "location", *OWN_GROUPS),
    )
    parser.add_argument("--architecture", choices=("x86_64", "arm64"), help="only those for such machines")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    images = listing_provider(configuration).images(configuration, now=time.time())
    wanted = [one for one in images if arguments.architecture in (None, one.architecture)]
    if arguments.json:
        for one in wanted:
            print(json.dumps(dataclasses.asdict(one)))
        return 0
    rows = [
        (one.name, one.architecture, time.strftime("%Y-%m-%d", time.gmtime(one.created_at)), one.id) for one in wanted
    ]
    print(columns(rows, ("name", "architecture", "made on", "id")))
    return 0
