"""The options of commands that print lists: a filter, an order and a limit, over rows with named fields."""

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from typing import Any, TypeVar

from taskfleet.errors import UsageError
from taskfleet.terminal.arguments import whole_number

Row = TypeVar("Row")


def add_listing(parser: argparse.ArgumentParser, fields: Collection[str], *, order: str, limit: int = 0) -> None:
    """Add the options.

    Args:
        parser: The command's parser.
        fields: The fields that rows can be sorted by.
        order: The default order, for the help.
        limit: The default limit; 0 for none.
    """
    parser.add_argument("--filter", metavar="TEXT", help="list only rows with a field that contains TEXT, in any case")
    parser.add_argument(
        "--sort-by",
        "--sort",
        dest="sort_by",
        metavar="FIELDS",
        default="",
        help=f"sort by one or more of {', '.join(fields)}, separated by commas; -FIELD sorts in descending order; names can be "
        f"abbreviated (default {order})",
    )
    parser.add_argument(
        "--limit",
        type=whole_number(0),
        default=limit,
        metavar="N",
        help=f"list at most N rows; 0: all (default {limit})",
    )


def arrange(
    rows: Sequence[Row],
    arguments: argparse.Namespace,
    fields: Mapping[str, Callable[[Row], Any]],
    aliases: Mapping[str, str] | None = None,
) -> list[Row]:
    """Return the rows that pass the filter, in order; see ``limited`` for the limit.

    Args:
        rows: In the default order.
        arguments: The parsed command line.
        fields: What each field of a row is: a text, a number, a list of texts, or None if it is unknown. The filter searches all.
        aliases: Further names of fields.

    Raises:
        UsageError: An unknown field is named.
    """
    text = (arguments.filter or "").lower()
    kept = [row for row in rows if not text or any(text in _words(value_of(row)) for value_of in fields.values())]
    for word in reversed(arguments.sort_by.split(",") if arguments.sort_by else []):
        value_of = fields[_field(word.strip().removeprefix("-"), fields, aliases or {})]
        known = [row for row in kept if value_of(row) is not None]
        known.sort(key=value_of, reverse=word.strip().startswith("-"))
        kept = known + [row for row in kept if value_of(row) is None]
    return kept


def limited(rows: Sequence[Row], arguments: argparse.Namespace) -> Sequence[Row]:
    """Return the rows within the limit."""
    return rows[: arguments.limit or None]


def print_left_out(rows: Sized, shown: Sized) -> None:
    """Print how many rows the limit left out, if any."""
    if len(rows) > len(shown):
        print(f"… and {len(rows) - len(shown):,} more; --limit 0 lists all.")


def print_none(noun: str, arguments: argparse.Namespace, *criteria: str) -> None:
    """Print that no row was found, with those of the given flags that were used."""
    used = [f"--{name} {value}" for name in criteria if (value := getattr(arguments, name))]
    print(f"No {noun} matches {' '.join(used)}." if used else f"No {noun}s.")


def _words(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)).lower()
    return str(value).lower() if isinstance(value, str | int | float) else ""


def _field(word: str, fields: Collection[str], aliases: Mapping[str, str]) -> str:
    name = word.lower().replace("-", "_")
    if name in aliases:
        return aliases[name]
    if name in fields:
        return name
    found = [one for one in fields if name and one.startswith(name)]
    if len(found) == 1:
        return found[0]
    which = f"could be {' or '.join(found)}" if found else "is not a field"
    raise UsageError(f"--sort-by {word!r} {which}. Fields: {', '.join(fields)}.")
