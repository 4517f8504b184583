"""Basic types of requirements on machines. Without heavy imports, since every command imports them with the settings."""

import re
from dataclasses import dataclass
from enum import StrEnum

#: Tolerance for rounding errors.
EPSILON = 1e-9


class Market(StrEnum):
    """The pricing model of a machine."""

    SPOT = "spot"
    """Cheap; the provider can reclaim the machine."""
    ON_DEMAND = "on-demand"
    """At the list price, until it is terminated."""


class Architecture(StrEnum):
    """The instruction set of a machine."""

    X86_64 = "x86_64"
    """AMD and Intel."""
    ARM64 = "arm64"
    """AWS Graviton, Ampere, Google Axion."""


class Hardware(StrEnum):
    """Special hardware of a machine, which most tasks cannot use; such machines are chosen on request only."""

    GPU = "gpu"
    """Graphics processors."""
    FPGA = "fpga"
    """Programmable logic."""
    ACCELERATOR = "accelerator"
    """Chips for machine learning or video, such as Inferentia, Trainium and TPUs."""
    METAL = "metal"
    """A whole computer without a hypervisor: large, and slow to boot."""
    HIGH_MEMORY = "high-memory"
    """Some terabytes of memory, for databases."""


def region_of(zone: str) -> str:
    """Return the region of a zone: us-east-1 for us-east-1a and us-east-1-bos-1a, us-east1 for us-east1-b; else the zone itself."""
    found = re.match(r"[a-z]{2}(?:-[a-z]+)+-\d+(?=[a-z-])|[a-z]+-[a-z]+\d+(?=-[a-z]$)", zone)
    return found.group() if found else zone


@dataclass(frozen=True, slots=True)
class Host:
    """A computer that is reached with ssh."""

    name: str
    """As for ssh: an alias of its configuration, a name or an address, with the user and an @ before it if there is one."""
    slots: int | None = None
    """The most tasks at once there; None for what its CPUs allow."""

    def __str__(self) -> str:
        """Return the host as it is written in a setting."""
        return f"{self.name}:{self.slots}" if self.slots else self.name


@dataclass(frozen=True, slots=True)
class Range:
    """A range from ``low`` to ``high``, both inclusive; None for no limit."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        """Return whether a value is in the range."""
        return (self.low is None or value >= self.low - EPSILON) and (self.high is None or value <= self.high + EPSILON)

    def __str__(self) -> str:
        """Return the range as it is written in a setting."""
        if self == ANY:
            return ""
        if self.low == self.high:
            return f"{self.low:g}"
        return "-".join("" if one is None else f"{one:g}" for one in (self.low, self.high))

    def describe(self) -> str:
        """Return the range in words."""
        if self.low is not None and self.low == self.high:
            return f"{self.low:g}"
        parts = [f"at least {self.low:g}"] if self.low is not None else []
        return " and ".join([*parts, *([f"at most {self.high:g}"] if self.high is not None else [])]) or "anything"


ANY = Range()
