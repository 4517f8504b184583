"""Filters of lists of Compute Engine, as its reference describes them: https://cloud.google.com/compute/docs/reference/rest/v1/instances/list.

Comparisons side by side or with AND, OR (which binds tighter, see AIP-160), NOT and parentheses. The former operators ``eq`` and ``ne``
compare with a regular expression that has to fit as a whole. A field that the resource does not have is refused.
"""

import json
import re
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

from shared_lib.tests.services.gce_requests import invalid

_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>!=|>=|<=|[()=<>:-])|"(?P<quoted>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<word>[^\s()=<>!:"']+))"""
)
Test = Callable[[dict[str, Any]], bool]


def filtered(items: list[dict[str, Any]], query: dict[str, str], kind: str) -> list[dict[str, Any]]:
    """Return the resources that the filter of a request matches.

    Args:
        items: The resources.
        query: The parameters of the request.
        kind: Of the list, such as ``compute#instanceList``.

    Raises:
        RefusedError: The filter is invalid.
    """
    expression = query.get("filter", "")
    if not expression.strip():
        return items
    test = _Parser(expression, kind).parse()
    return [one for one in items if test(one)]


class _Parser:
    def __init__(self, expression: str, kind: str) -> None:
        self._expression = expression
        self._kind = kind
        self._tokens: list[tuple[str, str]] = []
        at = 0
        text = expression.strip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._invalid()
            name = found.lastgroup or ""
            self._tokens.append((name, found[name]))
            at = found.end()

    def parse(self) -> Test:
        """Return the test of one resource."""
        found = self._all()
        if self._tokens:
            raise self._invalid()
        return found

    def _invalid(self) -> Exception:
        return invalid("filter", self._expression, "Invalid list filter.")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[0] if self._tokens else ("", "")

    def _take(self) -> tuple[str, str]:
        if not self._tokens:
            raise self._invalid()
        return self._tokens.pop(0)

    def _all(self) -> Test:
        parts = [self._any()]
        while self._tokens and self._peek() != ("sign", ")"):
            if self._peek() == ("word", "AND"):
                self._take()
            parts.append(self._any())
        return lambda one: all(part(one) for part in parts)

    def _any(self) -> Test:
        parts = [self._one()]
        while self._peek() == ("word", "OR"):
            self._take()
            parts.append(self._one())
        return lambda one: any(part(one) for part in parts)

    def _one(self) -> Test:
        kind, text = self._take()
        if (kind, text) in (("word", "NOT"), ("sign", "-")):
            inner = self._one()
            return lambda one: not inner(one)
        if (kind, text) == ("sign", "("):
            inner = self._all()
            if self._take() != ("sign", ")"):
                raise self._invalid()
            return inner
        if kind != "word" or text in ("AND", "OR"):
            raise self._invalid()
        _, sign = self._take()
        value_kind, value = self._take()
        if sign not in _SIGNS or (value_kind == "sign" and value != "*"):
            raise self._invalid()
        self._check_field(text)
        return lambda one: _fits(one, text, sign, value)

    def _check_field(self, path: str) -> None:
        first = path.partition(".")[0]
        if first not in _fields(self._kind):
            raise invalid("filter", self._expression, f"Invalid field '{path}'.")


_SIGNS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda found, value: found == value,
    "!=": lambda found, value: found != value,
    ">": lambda found, value: found > value,
    "<": lambda found, value: found < value,
    ">=": lambda found, value: found >= value,
    "<=": lambda found, value: found <= value,
    ":": lambda found, value: value == "*" or value in found,
    "eq": lambda found, value: re.fullmatch(value, found) is not None,
    "ne": lambda found, value: re.fullmatch(value, found) is None,
}


def _fits(item: dict[str, Any], path: str, sign: str, value: str) -> bool:
    found: Any = item
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        return sign in ("!=", "ne")
    text = str(found).lower() if isinstance(found, bool) else str(found)
    return _SIGNS[sign](text, value)


def _fields(kind: str) -> frozenset[str]:
    """Return the fields of the resources of a list, from Google's discovery document."""
    name = re.sub(r"(Aggregated)?List$", "", kind.removeprefix("compute#"))
    return frozenset(_schemas()[name[0].upper() + name[1:]]["properties"])


@cache
def _schemas() -> dict[str, Any]:
    file = resources.files("googleapiclient.discovery_cache.documents").joinpath("compute.v1.json")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["schemas"]
    return found
