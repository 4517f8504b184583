"""Patterns with ``*`` and ``?``, which users may mistake for regular expressions."""

import re
from itertools import islice, product

MOST_ALTERNATIVES = 20
#: Signs that no name of an instance type, zone or processor has, and that mean something in regular expressions.
_REGULAR = re.compile(r"[\\^$|+{}()]|(?:^|-)\.[*+?]")
#: The same in a pattern that was converted.
_LEFT = re.compile(r"[\\^$|+{}()]")
#: A group with alternatives, but without another one inside, not optional or repeated, and not an assertion such as (?=…).
_GROUP = re.compile(r"\((?:\?:|(?!\?))([^()]*)\)(?![*+?{])")
_PARTS = (
    (re.compile(r"^\^|\$$"), ""),
    (re.compile(r"(?:\\d|\[0-9\]|\.|\[[^]]*\]|\\w)(?:\*|\{[0-9,]*\})"), "*"),
    (re.compile(r"(?:\\d|\[0-9\])\+"), "[0-9]*"),
    (re.compile(r"(?:\.|\[[^]]*\]|\\w)\+"), "?*"),
    (re.compile(r"\\d"), "[0-9]"),
    (re.compile(r"\\w|(?<!\\)\."), "?"),
    (re.compile(r"\\([.-])"), r"\1"),
)


def is_regular(pattern: str) -> bool:
    """Return whether a pattern was meant as a regular expression, judging by signs that names do not have."""
    return _REGULAR.search(pattern) is not None


def globs_of(expression: str) -> tuple[str, ...]:
    """Return the patterns with ``*`` and ``?`` that match what a regular expression does; empty if there are none.

    There are none for expressions of which the conversion is not certain, nor for more than MOST_ALTERNATIVES alternatives.
    """
    found = []
    alternatives = _alternatives(expression)
    if len(alternatives) > MOST_ALTERNATIVES:
        return ()
    for one in alternatives:
        text = one
        for part, glob in _PARTS:
            text = part.sub(glob, text)
        if _LEFT.search(text):
            return ()
        found.append(text)
    return tuple(dict.fromkeys(filter(None, found)))


def _alternatives(pattern: str) -> list[str]:
    """Return a regular expression without groups for each combination of alternatives."""
    pieces = _GROUP.split(pattern)  # texts and the contents of groups by turns
    if any("|" in text for text in pieces[::2]):
        if len(pieces) > 1:
            return [pattern]
        return pattern.split("|")
    choices = [[piece] if index % 2 == 0 else piece.split("|") for index, piece in enumerate(pieces)]
    return ["".join(one) for one in islice(product(*choices), MOST_ALTERNATIVES + 1)]
