"""The command line: ``python -m taskfleet COMMAND``, which is what the poe tasks of a project call.

A command's module is imported when it is called, so that ``status`` does not wait for pandas.
"""

import importlib
import sys
from collections.abc import Sequence

from taskfleet.terminal.guard import guarded
from taskfleet.terminal.registry import COMMANDS, Heading


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in {"-h", "--help"}:
        print(overview())
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}.\n\n{overview()}", file=sys.stderr)
        return 2
    return guarded(lambda: _run(name, rest), is_output_optional=not COMMANDS[name].is_report)


def overview() -> str:
    """Return the list of commands."""
    width = max(map(len, COMMANDS))
    lines = ["Usage: python -m taskfleet COMMAND [-e FILE] [--help] ..."]
    for heading in Heading:
        lines += ["", heading]
        lines += [f"  {one.name:<{width}}  {one.help}" for one in COMMANDS.values() if one.heading is heading]
    return "\n".join(lines)


def _run(name: str, argv: list[str]) -> int:
    module = importlib.import_module(f"taskfleet.commands.{name}")
    code: int = module.run(argv)
    return code
