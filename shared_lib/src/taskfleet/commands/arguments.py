"""What the commands share: their parser, the settings as flags, the ledger, the confirmation."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taskfleet.errors import DeclinedError, TaskfleetError, UsageError
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.settings import DEFAULT_FILE, Configuration, describe, read_configuration
from taskfleet.settings.declaring import GROUPS, POOL_GROUPS, PROVIDER_GROUPS
from taskfleet.settings.reader import find_project


class _Parser(argparse.ArgumentParser):
    """Shows in its help only the sections of settings that matter to the provider that is chosen."""

    def add_section(self, group: str) -> "argparse._ArgumentGroup":
        """Add a section for the flags of a group of settings."""
        section = self.add_argument_group(f"settings: {GROUPS[group]}")
        self._sections[group] = section
        return section

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; see ``argparse``."""
        if any(one in ("-h", "--help") for one in args or ()) and any(group in POOL_GROUPS for group in self._sections):
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


def _chosen_provider(argv: Sequence[str]) -> str | None:
    """Return the provider that a command line means, or that the settings name; None if they cannot be read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-e", "--env-file")
    parser.add_argument("--provider")
    known, _ = parser.parse_known_args([one for one in argv if one not in ("-h", "--help")])
    flags = {} if known.provider is None else {"PROVIDER": known.provider}
    try:
        return read_configuration(flags=flags, env_file=known.env_file).pool.provider
    except TaskfleetError:
        return None


def make_parser(
    name: str, description: str, examples: str, groups: Sequence[str] = ("job",), operands: str = ""
) -> argparse.ArgumentParser:
    """Make a command's parser.

    Args:
        name: As in ``poe NAME``.
        description: What it does.
        examples: Lines to show at the end of the help.
        groups: The sections of settings that matter to this command: each setting becomes a flag. Sections that do not matter to the
            provider that is chosen are left out of the help; their flags are taken all the same.
        operands: What stands behind the options, for the usage line.
    """
    parser = _Parser(
        prog=f"poe {name}",
        usage=f"poe {name} [-e FILE] [options] {operands}".rstrip(),
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-e", dest="env_file", metavar="FILE", help=f"read the settings from FILE instead of {DEFAULT_FILE}"
    )
    parser.add_argument("--env-file", dest="env_file", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for group in groups:
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
    """Read the settings, the flags among them."""
    flags = {field.name: value for field in describe() if (value := getattr(arguments, field.name, None)) is not None}
    return read_configuration(flags=flags, env_file=arguments.env_file, start=start)


def open_job(arguments: argparse.Namespace, *, read_only: bool = False) -> Database:
    """Open the ledger of the job the settings name."""
    configuration = configure(arguments)
    return open_ledger(
        configuration.ledger_path,
        job_id=configuration.settings.job_id,
        project=configuration.project,
        read_only=read_only,
    )


def users_path(name: str) -> Path:
    """Anchor a path from the command line in the user's folder, also when poe has changed to the project's."""
    return Path(os.environ.get("POE_PWD") or Path.cwd()) / Path(name).expanduser()


def script_folder() -> Path | None:
    """Give the folder of the script that is being run if it lies in a project: so it runs from anywhere."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if (
        not file or getattr(main, "__package__", None) == "taskfleet"
    ):  # python -m taskfleet, whose project is where it is typed
        return None
    folder = Path(file).resolve().parent
    return folder if (find_project(folder) / DEFAULT_FILE).is_file() else None


def confirm(what: str, word: str, *, yes: bool) -> None:
    """Have the user type a word before something is taken away.

    Raises:
        DeclinedError: Something else was typed.
        UsageError: Nobody is there to type.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what} Nobody is at the terminal to confirm it: add --yes. Nothing was changed.")
    print(what, file=sys.stderr)
    if prompt(f"Type {word} to go on: ") != word:
        raise DeclinedError("The confirmation did not match. Nothing was changed.")


def prompt(question: str) -> str:
    """Ask the user at the terminal; return the answer without blanks around it, an empty one for the end of the input (Ctrl-D)."""
    try:
        return input(question).strip()
    except EOFError:
        print()
        return ""
