"""What the commands share: their parser, the settings as flags, the ledger, the confirmation."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from taskfleet.errors import CommandError
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.settings import DEFAULT_FILE, Configuration, describe, read_configuration
from taskfleet.settings.declaring import GROUPS
from taskfleet.settings.reader import find_project


def make_parser(
    name: str, description: str, examples: str, groups: Sequence[str] = ("job",), operands: str = ""
) -> argparse.ArgumentParser:
    """Make a command's parser.

    Args:
        name: As in ``poe NAME``.
        description: What it does.
        examples: Lines to show at the end of the help.
        groups: The groups of settings that matter to this command: each setting becomes a flag.
        operands: What stands behind the options, for the usage line.
    """
    parser = argparse.ArgumentParser(
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
        section = parser.add_argument_group(f"settings: {GROUPS[group].lower()}")
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
        CommandError: Something else was typed, or nobody is there to type.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandError(f"{what} Nobody is at the terminal to confirm it: add --yes. Nothing was changed.")
    print(what, file=sys.stderr)
    if input(f"Type {word} to go on: ").strip() != word:
        raise CommandError("That was something else. Nothing was changed.")
