"""Checks of the fields of a message, which may come from anybody with write access to the queue.

Each function returns the value if its type and range are those of the field, and raises ``ValueError`` with the field's name otherwise.
"""

import json
from typing import Any

from taskfleet.tasks import ATTEMPTS_PER_TASK, LAST_ATTEMPT, LONGEST_DELAY_SECONDS, Outcome

LARGEST_INTEGER = 2**63 - 1
#: The highest number of a task: the key of its last attempt is a 64-bit integer.
LAST_SEQ = LARGEST_INTEGER // ATTEMPTS_PER_TASK - 1
#: Seconds since the epoch, in the year 9892: later times cannot be shown in every time zone.
LATEST_TIME = 2.5e11
#: The longest duration or delay.
LONGEST_SECONDS = LONGEST_DELAY_SECONDS
#: Characters of a value that an error shows.
_SHOWN = 60
_OUTCOMES = frozenset(map(int, Outcome))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


#: Unlike ``json.loads``, it refuses NaN and infinity.
decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def wrong(name: str, value: object, wanted: str) -> ValueError:
    """Return the error of a field with a wrong value."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or a deep list
        shown = f"a value of type {type(value).__name__}"
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}…"
    return ValueError(f"{name} is {shown}, not {wanted}")


def whole(value: Any, name: str, least: int = 0, most: int = LARGEST_INTEGER) -> int:
    """Return an integer in a range."""
    if type(value) is not int or not least <= value <= most:
        raise wrong(name, value, f"an integer of {least} to {most}")
    return value


def number(value: Any, name: str, most: float, least: float = 0.0) -> float:
    """Return a finite number in a range."""
    if type(value) not in (float, int) or not least <= value <= most:
        raise wrong(name, value, f"a number of {least:g} to {most:g}")
    return float(value)


def string(value: Any, name: str, *, least: int = 0, most: int | None = None) -> str:
    """Return a text of ``least`` to ``most`` characters, all of which can be encoded."""
    if type(value) is not str or len(value) < least:
        raise wrong(name, value, "a text that is not empty" if least else "a text")
    if most is not None and len(value) > most:
        raise wrong(name, value, f"a text of at most {most} characters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise wrong(name, value, "valid Unicode") from None
    return value


def printed(value: Any, name: str) -> str | None:
    """Return the output or the error of a task, or None. It may have lone surrogates; who stores it calls ``storable``."""
    return value if value is None or type(value) is str else string(value, name)


def storable(text: str | None) -> str | None:
    """Return an output or error with its lone surrogates escaped, because a ledger cannot store them."""
    return text if text is None or text.isascii() else text.encode(errors="backslashreplace").decode()


def listed(value: Any, name: str, least: int = 0) -> list[Any]:
    """Return a list of at least ``least`` elements."""
    if type(value) is not list or len(value) < least:
        raise wrong(name, value, f"a list of {least} or more elements" if least else "a list")
    return value


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Return an object."""
    if type(value) is not dict:
        raise wrong(name, value, "an object")
    return value


def seq(value: Any) -> int:
    """Return the number of a task."""
    return whole(value, "the number of a task", 0, LAST_SEQ)


def attempt(value: Any, least: int = 1) -> int:
    """Return the number of an attempt."""
    return whole(value, "the number of an attempt", least, LAST_ATTEMPT)


def outcome(value: Any) -> int:
    """Return the number of an outcome."""
    if type(value) is not int or value not in _OUTCOMES:
        raise wrong("an outcome", value, "a number that this version knows")
    return value


def json_text(text: str, name: str) -> Any:
    """Return the value of the JSON text of a task's data or result, in which NaN and infinity are allowed."""
    try:
        string(text, name)
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
