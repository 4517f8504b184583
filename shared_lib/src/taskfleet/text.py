"""Format durations, counts, rates and text tables, and texts of others, which may contain anything."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

#: What a terminal obeys or a reader does not see: control characters (C0 but line break and tab, delete, C1), marks and overrides of the
#: writing direction, separators of lines and paragraphs, and halves of surrogate pairs.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
#: A sequence that sets colours and styles.
_COLOUR = re.compile("\x1b\\[[0-9;:]*m")
#: A line of such a text may have this many characters.
LONGEST_LINE = 2000
#: What a cut line has after its end, at most; a line that is cut is not cut again.
_END_OF_CUT = 40


def harmless(text: str, *, longest_line: int = LONGEST_LINE) -> str:
    """Return a text of a task, a machine, a service or a table as it may be printed; applied twice, it changes nothing more.

    What a terminal would obey is escaped, except colours, which are dropped. Line breaks and tabs stay.

    Args:
        text: The text.
        longest_line: Longer lines are cut to this length, and say so.
    """
    if _HARMFUL.search(text):
        text = _HARMFUL.sub(_escaped, _COLOUR.sub("", text.replace("\r\n", "\n")))
    if len(text) > longest_line:
        text = "\n".join(_cut(line, longest_line) for line in text.split("\n"))
    return text


def one_line(text: str) -> str:
    """Return such a text as part of a line: line breaks and tabs are escaped, too."""
    return harmless(text.replace("\n", "\\n").replace("\t", "\\t"))


def harmless_json(value: object) -> str:
    """Return a value as JSON that is as harmless on a terminal, and from which a program reads the same value."""
    return _HARMFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _cut(line: str, longest: int) -> str:
    more = len(line) - longest
    return line if more <= _END_OF_CUT else f"{line[:longest]}… ({more:,} more characters)"


def clock(seconds: float, style: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time, given in seconds since the epoch, in the local time zone; the number itself if it is no time."""
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime(style)
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"


def duration(seconds: float) -> str:
    """Return a duration with two units at most: ``0.053 ms``, ``0.35 s``, ``42 s``, ``8m 27s``, ``3h 05m``, ``2d 04h``."""
    # the limits are where the rounded number has reached the next form
    if 0 < seconds < 0.000995:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02d}m"
    return f"{hours // 24}d {hours % 24:02d}h"


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: ``1 task``, ``2,000 tasks``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def some(value: float, noun: str) -> str:
    """Return a quantity with a noun in singular or plural; not for words with an irregular plural."""
    text = f"{value:.3g}"
    return f"{text} {noun}{'' if text == '1' else 's'}"


def amount(value: float, unit: str) -> str:
    """Return an amount of money or the like, with more decimals if it is small and has them."""
    return f"{value:.2f} {unit}" if value >= 0.1 or value == round(value, 2) else f"{value:.4f} {unit}"


def rate(per_second: float) -> str:
    """Return a rate per second, minute or hour, whichever unit gives at least one; per hour otherwise."""
    if per_second * 60 >= 59.95:
        return f"{per_second:,.0f}/s" if per_second >= 9.95 else f"{per_second:.1f}/s"
    if per_second * 3600 >= 59.95:
        return f"{per_second * 60:.1f}/min"
    return f"{per_second * 3600:.1f}/h"


def details(records: Sequence[Mapping[str, str]]) -> str:
    """Return records as paragraphs, with a line for each value."""
    return "\n\n".join(
        "\n".join(f"{name:<{max(map(len, one))}}  {one_line(value)}".rstrip() for name, value in one.items())
        for one in records
    )


def columns(rows: Sequence[Sequence[str]], headings: Sequence[str], *, without: Collection[str] = ()) -> str:
    """Return rows as a left-aligned text table under headings, each on one line; the last column is not padded.

    Args:
        rows: The cells of each row.
        headings: Of the columns.
        without: The headings of columns to leave out.
    """
    kept = [index for index, heading in enumerate(headings) if heading not in without]
    rows = [[one_line(row[index]) for index in kept] for row in rows]
    headings = [headings[index] for index in kept]
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in [headings, *rows]
    )
