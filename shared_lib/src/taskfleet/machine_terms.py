"""The words in which machines are asked for; light, since every command reads them with the settings."""

import re
from dataclasses import dataclass
from enum import StrEnum

#: Room for rounding when a machine is shared out exactly.
EPSILON = 1e-9


class Market(StrEnum):
    """How a machine is paid for."""

    SPOT = "spot"
    """Cheap, and taken away when somebody pays more."""
    ON_DEMAND = "on-demand"
    """At the list price, until it is given back."""


class Architecture(StrEnum):
    """What programs a machine runs."""

    X86_64 = "x86_64"
    """AMD and Intel."""
    ARM64 = "arm64"
    """AWS Graviton, Ampere, Google Axion."""


def region_of(zone: str) -> str:
    """Give the region of a zone: us-east-1 of us-east-1a and of us-east-1-bos-1a, us-east1 of us-east1-b; others are their own."""
    found = re.match(r"[a-z]{2}(?:-[a-z]+)+-\d+(?=[a-z-])|[a-z]+-[a-z]+\d+(?=-[a-z]$)", zone)
    return found.group() if found else zone


@dataclass(frozen=True, slots=True)
class Range:
    """From ``low`` to ``high``, both included; None for no limit."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        """Whether a value is within it."""
        return (self.low is None or value >= self.low - EPSILON) and (self.high is None or value <= self.high + EPSILON)

    def __str__(self) -> str:
        """Say it as it is written in a setting."""
        if self == ANY:
            return ""
        if self.low == self.high:
            return f"{self.low:g}"
        return "-".join("" if one is None else f"{one:g}" for one in (self.low, self.high))

    def in_words(self) -> str:
        """Say it as one would."""
        if self.low is not None and self.low == self.high:
            return f"{self.low:g}"
        parts = [f"at least {self.low:g}"] if self.low is not None else []
        return " and ".join([*parts, *([f"at most {self.high:g}"] if self.high is not None else [])]) or "anything"


ANY = Range()
