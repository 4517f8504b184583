"""``poe list_images``: list the current operating system images."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence

from taskfleet.api.planning import images
from taskfleet.machines.images import Image
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.terminal.listing import add_listing, arrange, limited, print_left_out, print_none
from taskfleet.text import columns, details

EXAMPLES = """\
  poe list_images
  poe list_images --filter ubuntu --sort-by -created,name --limit 5
  poe list_images --regions eu-west-1 --architecture arm64"""


FIELDS: dict[str, Callable[[Image], str]] = {
    "name": lambda one: one.name,
    "architecture": lambda one: one.architecture,
    "created": lambda one: time.strftime("%Y-%m-%d", time.gmtime(one.created_at)),
    "id": lambda one: one.id,
    "provider": lambda one: one.provider,
}


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser(
        "list_images", "The list has the images of Ubuntu, Debian and the provider's own distribution.", EXAMPLES
    )
    parser.add_argument("--architecture", choices=("x86_64", "arm64"), help="list only images for this architecture")
    add_listing(parser, FIELDS, order="the provider's order")
    parser.add_argument("--detail", action="store_true", help="show each image with all its values")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    arguments = parser.parse_args(argv)
    found = [one for one in images(configure(arguments)) if arguments.architecture in (None, one.architecture)]
    wanted = arrange(found, arguments, FIELDS, dict.fromkeys(("creation_date", "date"), "created"))
    shown = limited(wanted, arguments)
    if arguments.json:
        for one in shown:
            print(json.dumps(dataclasses.asdict(one)))
        return 0
    if not shown:
        print_none("image", arguments, "architecture", "filter")
        return 0
    heads = ("name", "architecture", "created", "id")
    if arguments.detail:
        print(details([{name: value_of(one) for name, value_of in FIELDS.items()} for one in shown]))
    else:
        print(columns([tuple(FIELDS[name](one) for name in heads) for one in shown], heads))
    print_left_out(wanted, shown)
    return 0
