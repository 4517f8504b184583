"""Parsers of setting texts; each raises ``ValueError`` with a description of the accepted values."""

import math
import re
import shlex
import sys
from collections.abc import Callable
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from taskfleet.machine_terms import ANY, Host, Market, Range
from taskfleet.settings.globs import globs_of, is_regular

T = TypeVar("T")
_Kind = TypeVar("_Kind", bound=StrEnum)

#: The queue URL of the project's own PostgreSQL server. Inside the library, a colon and its folder follow.
SERVER = "server"
#: Queue URLs: of a queue in the ledger, and of a service queue.
EMBEDDED = re.compile(r"ledger|fq://.+")
REMOTE = re.compile(r"server|sqs://[^/?]+.*|https?://[^/]+/\d+/[^/?]+.*|pubsub://[^?]+|postgres(ql)?://.*", re.DOTALL)
#: The name of a queue that a job has beside that of QUEUE_URL: of a manager, of events, and so on.
_OTHER_QUEUE = re.compile(r"--[^/]*$|-(events|board|dead)$")


def text(value: str) -> str:
    """Return the text unchanged."""
    return value


def job_name(value: str) -> str:
    """Parse a name that is valid in file names and in the queue names of every cloud."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", value):
        raise ValueError("a letter, then at most 62 letters, digits, '-' or '_'")
    return value


def function_name(value: str) -> str:
    """Parse ``module:function``."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        raise ValueError("module:function, for example task:run_task")
    return value


def is_in_project(queue_url: str) -> bool:
    """Return whether workers find the queue by the project's folder, so that their computers have to share it."""
    return queue_url == SERVER or EMBEDDED.fullmatch(queue_url) is not None


def queue_url(value: str) -> str:
    """Parse the URL of a queue."""
    if not EMBEDDED.fullmatch(value) and not REMOTE.fullmatch(value):
        raise ValueError("'ledger', 'server', sqs://NAME, pubsub://PROJECT/NAME or postgresql://[USER@][HOST]/DATABASE")
    if re.match(r"(sqs|https?|pubsub):", value) and _OTHER_QUEUE.search(value.partition("?")[0].rstrip("/")):
        raise ValueError(
            "a name of a queue that has no '--' and does not end with -events, -board or -dead: other queues of a job have such names"
        )
    return value


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``low`` to ``high``, of at most 18 digits (the ledger has 64-bit integers)."""
    expected = "a whole number " + (f"of at least {low}" if high is None else f"from {low} to {high}")

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]+(_[0-9]+)*", value):
            raise ValueError(expected)
        if len(value.replace("_", "")) > 18:
            raise ValueError(f"{expected}, of at most 18 digits")
        if int(value) < low or (high is not None and int(value) > high):
            raise ValueError(expected)
        return int(value)

    return parse


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """Return a parser of finite numbers from ``low`` (excluded if ``above``) to ``high``."""
    expected = f"a number {'above' if above else 'of at least'} {low:g}"
    if high < math.inf:
        expected += f" and at most {high:g}"

    def parse(value: str) -> float:
        try:
            found = float(value)
        except ValueError:
            raise ValueError(expected) from None
        if not math.isfinite(found) or not low <= found <= high or (above and found == low):
            raise ValueError(expected)
        return found

    return parse


def delays_by_kind(value: str) -> tuple[tuple[str, float, float | None], ...]:
    """Parse a list of ``kind=first`` or ``kind=first..maximum``, in seconds."""
    found: dict[str, tuple[str, float, float | None]] = {}
    seconds = number(0)
    for part in re.split(r"[\s,]+", value.strip()) if value.strip() else ():
        kind, _, delays = part.partition("=")
        first, dots, maximum = delays.partition("..")
        try:
            known = {"exception", "timeout", "exit", "memory", "lost", "request"}
            if kind not in known or kind in found or (dots and seconds(maximum) < seconds(first)):
                raise ValueError
            found[kind] = (kind, seconds(first), seconds(maximum) if dots else None)
        except ValueError:
            raise ValueError(
                "kind=first or kind=first..maximum in seconds, separated by spaces; kinds: exception, timeout, exit, memory, lost, request"
            ) from None
    return tuple(found.values())


def optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Return a parser that returns None for an empty text."""
    return lambda value: parse(value) if value else None


def auto(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Return a parser that returns None for ``auto``."""

    def parse_auto(value: str) -> T | None:
        try:
            return None if value == "auto" else parse(value)
        except ValueError as error:
            raise ValueError(f"'auto' or {error}") from None

    return parse_auto


def switch(value: str) -> bool:
    """Parse a boolean in the usual spellings."""
    if value.lower() in {"true", "yes", "on", "1"}:
        return True
    if value.lower() in {"false", "no", "off", "0"}:
        return False
    raise ValueError("true or false")


def choice(*words: str, make: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """Return a parser of one of some words."""

    def parse(value: str) -> Any:
        if value not in words:
            raise ValueError(" or ".join([", ".join(words[:-1]), words[-1]]))
        return make(value)

    return parse


def start_method(value: str) -> str:
    """Parse a start method of ``multiprocessing``; return the default of this system for ``auto``."""
    if value == "auto":
        return "fork" if sys.platform.startswith("linux") else "spawn"
    known = ("spawn",) if sys.platform == "win32" else ("fork", "spawn", "forkserver")
    if value in known:
        return value
    raise ValueError(" or ".join(["'auto'", *known]))


def feather_file(value: str) -> str:
    """Return a file name, with ``.feather`` added if it has no suffix."""
    return value if Path(value).suffix else f"{value}.feather"


_NUMBER = r"[0-9]+(?:\.[0-9]+)?"


def span(value: str) -> Range:
    """Parse a range of numbers: ``4-16``, ``4-``, ``-16`` or ``8``; empty for any."""
    found = re.fullmatch(rf"({_NUMBER})|({_NUMBER})?-({_NUMBER})?", value.strip()) if value.strip() else None
    if not value.strip():
        return ANY
    if found is None or value.strip() == "-":
        raise ValueError("a number or a range: 8, 4-16, 4- (at least) or -16 (at most)")
    exact, low, high = found.groups()
    if exact is not None:
        return Range(float(exact), float(exact))
    if low is not None and high is not None and float(low) > float(high):
        raise ValueError("a range with its lower bound first")
    return Range(None if low is None else float(low), None if high is None else float(high))


def arguments(text: str) -> tuple[str, ...]:
    """Return the arguments of a command line, with the quotation marks of a shell."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"arguments as on a command line; {str(error)[:1].lower()}{str(error)[1:]}") from None


def words(value: str) -> tuple[str, ...]:
    """Split a list of words that are separated by spaces or commas."""
    return tuple(re.split(r"[\s,]+", value.strip())) if value.strip() else ()


def phrases(value: str) -> tuple[str, ...]:
    """Split a list of texts that are separated by commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def globs(split: Callable[[str], tuple[str, ...]], *, separator: str = " ") -> Callable[[str], tuple[str, ...]]:
    """Return a parser of patterns with ``*`` and ``?``, split by another parser; ``separator`` joins them in a suggestion."""

    def parse(value: str) -> tuple[str, ...]:
        patterns = split(value)
        if any(map(is_regular, patterns)):
            converted = [globs_of(one) for one in patterns]
            meant = separator.join(chain(*converted)) if all(converted) else ""
            raise ValueError(
                "patterns with * and ?, not regular expressions"
                + (f": write {meant}" if meant and meant != value else "")
            )
        return patterns

    return parse


def several(kinds: type[_Kind]) -> Callable[[str], tuple[_Kind, ...]]:
    """Return a parser of a list of members of an enumeration."""

    def parse(value: str) -> tuple[_Kind, ...]:
        found = words(value)
        if not set(found) <= set(kinds):
            raise ValueError(f"a list of {', '.join(kinds)}, separated by spaces")
        return tuple(dict.fromkeys(kinds(one) for one in found))

    return parse


def markets(value: str) -> tuple[Market, ...]:
    """Parse a list of markets."""
    found = words(value)
    if not found or not set(found) <= set(Market):
        raise ValueError("spot, on-demand, or both separated by a space")
    return tuple(dict.fromkeys(Market(one) for one in found))


def hosts(value: str) -> tuple[Host, ...]:
    """Parse a list of hosts; their names cannot be taken for options."""
    found = []
    for word in words(value):
        match = re.fullmatch(
            r"((?:[A-Za-z_][\w.-]*@)?[A-Za-z0-9][A-Za-z0-9._-]*)(?::([1-9][0-9]{0,5}))?", word, re.ASCII
        )
        if match is None:
            raise ValueError("names of hosts as for ssh, each with :SLOTS if it is limited: 'ws1 me@ws2 ws3:8'")
        found.append(Host(match[1], int(match[2]) if match[2] else None))
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ValueError(f"each host once; {twice} is there twice")
    return tuple(found)
