"""System images that machines boot."""

from dataclasses import dataclass

from taskfleet.machines.catalogue import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A system image."""

    id: str
    """As the provider wants it named at a launch."""
    name: str
    architecture: Architecture
    created_at: float
    """Seconds since the epoch."""
    provider: str
