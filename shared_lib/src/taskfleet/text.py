"""Format durations, counts, rates and text tables."""

from collections.abc import Sequence


def duration(seconds: float) -> str:
    """Return a duration with two units at most: ``0.053 ms``, ``0.35 s``, ``42 s``, ``8m 27s``, ``3h 05m``, ``2d 04h``."""
    if 0 < seconds < 0.001:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 10:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
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


def rate(per_second: float) -> str:
    """Return a rate per second, minute or hour, whichever unit gives at least one; per hour otherwise."""
    if per_second >= 1:
        return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"
    if per_second >= 1 / 60:
        return f"{per_second * 60:.1f}/min"
    return f"{per_second * 3600:.1f}/h"


def columns(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> str:
    """Return rows as a left-aligned text table under headings; the last column is not padded."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in [headings, *rows]
    )
