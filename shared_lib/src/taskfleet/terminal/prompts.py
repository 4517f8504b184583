"""Questions to the user at the terminal."""

import sys

from taskfleet.errors import DeclinedError, UsageError
from taskfleet.text import harmless


def confirm(what: str, word: str, *, yes: bool) -> None:
    """Ask the user to type a word before something is removed.

    Args:
        what: What will happen, as a sentence.
        word: The word to type.
        yes: Whether --yes was given: nothing is asked.

    Raises:
        DeclinedError: Something else was typed.
        UsageError: Standard input is not a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what} Not an interactive terminal: add --yes to confirm. Nothing was changed.")
    print(harmless(what), file=sys.stderr)
    if prompt(f"Type {word} to continue: ") != word:
        raise DeclinedError("The confirmation did not match. Nothing was changed.")


def confirm_start() -> None:
    """Ask the user whether to launch machines.

    Raises:
        DeclinedError: The answer is not yes.
        UsageError: Standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("Not an interactive terminal: add --yes to launch machines. No machine was launched.")
    if prompt("\nLaunch? [y/N] ").lower() not in ("y", "yes"):
        raise DeclinedError("No machine was launched.")


def prompt(question: str) -> str:
    """Return what the user types, without surrounding blanks; an empty string at the end of the input (Ctrl-D)."""
    try:
        return input(question).strip()
    except EOFError:
        print()
        return ""
