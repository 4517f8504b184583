"""``poe settings``: show every setting, its value and where it was set."""

import json
import shlex
from collections.abc import Sequence

from taskfleet.redaction import redact, redact_variable
from taskfleet.settings import describe
from taskfleet.settings.declaring import POOL_GROUPS, PROVIDER_GROUPS
from taskfleet.settings.reference import pool_env, table
from taskfleet.terminal.arguments import configure, make_parser
from taskfleet.text import columns

EXAMPLES = """\
  poe settings
  poe settings --json
  poe settings --markdown                  reference of all settings
  poe settings --provider aws --pool-env > pool.new && mv pool.new config/pool.env      for another provider"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("settings", "Sections that do not apply to the provider are omitted.", EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print one JSON object, with all settings")
    parser.add_argument(
        "--pool-env", action="store_true", help="print config/pool.env for the provider, with the values that are set"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the reference of all settings instead, as Markdown"
    )
    arguments = parser.parse_args(argv)
    if arguments.markdown:
        print(table(), end="")
        return 0
    configuration = configure(arguments)
    provider = configuration.pool.provider
    if arguments.pool_env:
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in configuration.pool_exports.items())
        print(pool_env(provider, configuration.texts, exports), end="")
        return 0
    values = configuration.values()
    if arguments.json:
        print(redact(json.dumps(values, default=str)))
        return 0
    rows = []
    for field in describe():
        place = configuration.places.get(field.name, "default")
        if field.group in POOL_GROUPS and field.group not in PROVIDER_GROUPS[provider]:
            if field.name not in configuration.places:
                continue
            place += f" (not used with PROVIDER={provider})"
        value = values[field.name]
        rows.append((field.name, redact(field.default if value is None else _shown(value)), place))
    rows += [
        (f"export {name}", redact_variable(name, value), "the file") for name, value in configuration.exports.items()
    ]
    print(columns(rows, ("setting", "value", "from")))
    return 0


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
