"""Parsing a command line, with the settings as flags."""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskfleet.errors import TaskfleetError, UsageError
from taskfleet.invocation import remember_flags
from taskfleet.settings import DEFAULT_FILE, Configuration, describe, read_configuration
from taskfleet.settings.declaring import GROUPS, POOL_GROUPS, PROVIDER_GROUPS
from taskfleet.settings.parsers import queue_url
from taskfleet.settings.reader import find_project
from taskfleet.terminal.logs import configure_logging
from taskfleet.terminal.registry import COMMANDS


class _Parser(argparse.ArgumentParser):
    """A parser whose help has only the sections of settings that apply to the provider."""

    def add_section(self, group: str) -> "argparse._ArgumentGroup":
        """Add a section for the flags of a group of settings."""
        section = self.add_argument_group(f"settings: {GROUPS[group]}")
        self._sections[group] = section
        return section

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; see ``argparse``."""
        args = _with_values(args or ())
        if any(one in ("-h", "--help") for one in args) and any(group in POOL_GROUPS for group in self._sections):
            self._hide_sections(_chosen_provider(args))
        return super().parse_known_args(args, namespace)

    def __init__(self, **options: Any) -> None:
        self._sections: dict[str, argparse._ArgumentGroup] = {}
        super().__init__(**options)

    def _hide_sections(self, provider: str | None) -> None:
        for group, section in self._sections.items():
            if provider is not None and group in POOL_GROUPS and group not in PROVIDER_GROUPS[provider]:
                for action in section._group_actions:
                    action.help = argparse.SUPPRESS


#: Flags whose value may begin with a hyphen.
_HYPHENATED = ("--sort-by", "--sort")


def _with_values(argv: Sequence[str]) -> list[str]:
    """Return a command line with such flags and their values as one word, since argparse would take the values for flags."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] in _HYPHENATED and word.startswith("-") and not word.startswith("--"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _chosen_provider(argv: Sequence[str]) -> str | None:
    """Return the provider in the command line or in the settings; None if they cannot be read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-e", "--env-file", "--config")
    parser.add_argument("--provider")
    known, _ = parser.parse_known_args([one for one in argv if one not in ("-h", "--help")])
    flags = {} if known.provider is None else {"PROVIDER": known.provider}
    try:
        return read_configuration(flags=flags, env_file=known.env_file).pool.provider
    except TaskfleetError:
        return None


def make_parser(name: str, details: str, examples: str, *, operands: str = "") -> argparse.ArgumentParser:
    """Return a command's parser, with a flag for each setting of its sections in the registry.

    The help omits sections that do not apply to the provider; their flags are accepted nevertheless.

    Args:
        name: As in ``poe NAME``.
        details: What the registry's line of help does not say; may be empty.
        examples: Lines at the end of the help.
        operands: The positional arguments, for the usage line.
    """
    command = COMMANDS[name]
    parser = _Parser(
        prog=f"poe {name}",
        usage=f"poe {name} [-e FILE] [options] {operands}".rstrip(),
        description=f"{command.help}.\n\n{textwrap.fill(details, shutil.get_terminal_size().columns - 2)}".strip(),
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-e",
        dest="env_file",
        metavar="FILE",
        help=f"read the settings from FILE instead of {DEFAULT_FILE}; FILE.yml: a configuration file of rms-cloud-tasks",
    )
    for name in ("--env-file", "--config"):
        parser.add_argument(name, dest="env_file", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument(
        "-v", dest="verbosity", action="count", default=0, help="print log messages; -vv: debug messages too"
    )
    parser.add_argument("--log-file", metavar="FILE", help="append all log messages to FILE, debug messages included")
    for group in command.groups:
        section = parser.add_section(group)
        for field in describe():
            if field.group != group:
                continue
            default = f"; default {field.default}" if field.default else ""
            sentence = f"{field.sentence} [{field.name}{default}]".replace("%", "%%")
            if field.is_switch:
                section.add_argument(
                    field.flag, dest=field.name, nargs="?", const="true", metavar="BOOL", help=sentence
                )
            else:
                section.add_argument(field.flag, dest=field.name, metavar=field.metavar, help=sentence)
    return parser


def configure(arguments: argparse.Namespace, *, start: Path | None = None) -> Configuration:
    """Read the settings, the flags among them, and start logging.

    Args:
        arguments: The parsed command line.
        start: The folder to search for the project from; None for the current folder.
    """
    fields = {field.name: field for field in describe()}
    flags = {name: value for name in fields if (value := getattr(arguments, name, None)) is not None}
    remember_flags(
        _flags_for(arguments.env_file, {fields[name].flag: (fields[name].group, flags[name]) for name in flags})
    )
    if arguments.verbosity:
        flags.setdefault("VERBOSE", "true")
    configuration = read_configuration(flags=flags, env_file=arguments.env_file, start=start)
    verbosity = max(arguments.verbosity, int(configuration.settings.verbose))
    configure_logging(verbosity, users_path(arguments.log_file) if arguments.log_file else None)
    return configuration


def _flags_for(env_file: str | None, given: Mapping[str, tuple[str, str]]) -> Callable[[str], Sequence[str]]:
    """Return a function that returns those of the given flags that another command has too: the file of settings, and settings."""

    def flags_for(name: str) -> Sequence[str]:
        groups = COMMANDS[name].groups if name in COMMANDS else ()
        flags = [] if env_file is None or name not in COMMANDS else ["-e", env_file]
        return flags + [word for flag, (group, value) in given.items() if group in groups for word in (flag, value)]

    return flags_for


def users_path(name: str) -> Path:
    """Anchor a path from the command line in the user's folder, also when poe has changed to the project's."""
    return Path(os.environ.get("POE_PWD") or Path.cwd()) / Path(name).expanduser()


def whole_number(least: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number of at least ``least``."""

    def parse(text: str) -> int:
        try:
            if (number := int(text)) >= least:
                return number
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")

    return parse


def queue_argument(flag: str, url: str) -> str:
    """Return the URL of a queue from the command line.

    Raises:
        UsageError: It is not a valid URL.
    """
    try:
        return queue_url(url)
    except ValueError as error:
        raise UsageError(f"{flag} {url!r}: it must be {error}.") from error


def script_folder() -> Path | None:
    """Return the folder of the running script if it is in a project, so that the script works from any folder; else None."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if (
        not file or getattr(main, "__package__", None) == "taskfleet"
    ):  # python -m taskfleet, whose project is where it is typed
        return None
    folder = Path(file).resolve().parent
    return folder if (find_project(folder) / DEFAULT_FILE).is_file() else None
