"""``poe settings``: every setting, its value, and where it comes from."""

import json
from collections.abc import Sequence

from taskfleet.commands.arguments import configure, make_parser
from taskfleet.settings import describe
from taskfleet.settings.declaring import GROUPS
from taskfleet.settings.reference import table
from taskfleet.text import columns

EXAMPLES = """\
  poe settings
  poe settings --json
  poe settings --markdown        the reference table"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("settings", "Show every setting, its value, and where it comes from.", EXAMPLES, tuple(GROUPS))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", action="store_true", help="print what every setting means instead")
    arguments = parser.parse_args(argv)
    if arguments.markdown:
        print(table(), end="")
        return 0
    configuration = configure(arguments)
    texts = {field.name: field.default for field in describe()}
    everything = [configuration.pool, configuration.settings]
    values = {
        name: next(getattr(one, name.lower()) for one in everything if hasattr(one, name.lower()))
        for name in (field.name for field in describe())
    }
    if arguments.json:
        print(json.dumps(values, default=str))
        return 0
    rows = [
        (name, texts[name] if value is None else _shown(value), configuration.places.get(name, "default"))
        for name, value in values.items()
    ]
    rows += [(f"export {name}", value, "the file") for name, value in configuration.exports.items()]
    print(columns(rows, ("setting", "value", "from")))
    return 0


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
