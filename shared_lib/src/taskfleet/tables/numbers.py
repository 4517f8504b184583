"""Numbers that are written as text: which texts are numbers, and whether Python's numbers keep them as written.

A float keeps a number if rounding the float to as many digits gives the number again. Then the digits that the text has and the float
has not are those of a conversion to text, such as the 19 digits of ``numpy.savetxt``.
"""

from decimal import Context, Decimal
from functools import partial

from taskfleet.tables.limits import MAX_DIGITS

INTEGER = r"(\+?0|[-+]?[1-9][0-9]*)"
"""A pattern for decimal integers. ``-0`` is a float, and ``007`` is text."""

FLOAT = r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?"
"""A pattern for decimal numbers, integers included."""

INEXACT = r"[0-9.]{16}|[eE][-+]?[0-9]{3}|-0([^.0-9eE]|$)"
"""A pattern for texts with numbers that ``int`` and ``float`` may change; all others are exact."""

_MAX_FLOAT_DIGITS = 1100
"""No float has more digits that are not zero."""


class Number:
    """A number in a file that neither ``int`` nor ``float`` keeps as written. It has no JSON; ``to_json`` rejects it with its place."""

    __slots__ = ("reason", "text")

    def __init__(self, text: str, reason: str) -> None:
        self.text = text
        self.reason = reason

    def __repr__(self) -> str:
        """Return the number as written."""
        return self.text


def integer(text: str) -> int | float | Number:
    """Return the value of a decimal integer; of ``-0`` the float, which keeps the sign."""
    if text == "-0":
        return -0.0
    if (digits := len(text.lstrip("+-"))) > MAX_DIGITS:
        return Number(text, f"it has {digits:,} digits, and an integer at most {MAX_DIGITS:,}")
    return int(text)


def real(text: str) -> float | Number:
    """Return the value of a decimal number as a float."""
    value = float(text)
    if keeps_digits(text, value):
        return value
    if value in (0.0, float("inf"), float("-inf")):
        return Number(text, "it is outside the range of a float")
    return Number(text, "a float does not keep all its digits")


def keeps_digits(text: str, value: float) -> bool:
    """Return whether a float keeps the number of which it is the nearest float."""
    if repr(value) == text:
        return True
    mantissa, _, exponent = text.lower().partition("e")
    if len(mantissa) <= 15 and len(exponent.lstrip("+-")) <= 2:
        return True
    if not value:
        return not mantissa.strip("+-0.")
    if len(mantissa) > _MAX_FLOAT_DIGITS or value in (float("inf"), float("-inf")):
        return False
    decimals = len(mantissa.partition(".")[2])
    if exponent and f"{value:.{decimals}e}" == text:  # quick, and the form of numpy.savetxt
        return True
    written = Decimal(text)
    if Decimal(repr(value)) == written:
        return True
    rounded = partial(Decimal(value).quantize, context=_wide)
    shortest = written.normalize(_wide)
    return rounded(written) == written or rounded(shortest) == shortest


_wide = Context(prec=3000)
