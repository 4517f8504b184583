"""``poe list_images``: list the current operating system images."""

import dataclasses
import json
import time
from collections.abc import Sequence

from taskfleet.api.planning import images
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.text import columns

EXAMPLES = """\
  poe list_images
  poe list_images --regions eu-west-1 --architecture arm64"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("list_images", "The list has Ubuntu, Debian and the provider's own system.", EXAMPLES)
    parser.add_argument("--architecture", choices=("x86_64", "arm64"), help="only images for this architecture")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args(argv)
    found = images(configure(arguments))
    wanted = [one for one in found if arguments.architecture in (None, one.architecture)]
    if arguments.json:
        for one in wanted:
            print(json.dumps(dataclasses.asdict(one)))
        return 0
    rows = [
        (one.name, one.architecture, time.strftime("%Y-%m-%d", time.gmtime(one.created_at)), one.id) for one in wanted
    ]
    print(columns(rows, ("name", "architecture", "created", "id")))
    return 0
