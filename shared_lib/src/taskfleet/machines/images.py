"""What a machine's boot disk is made from."""

from dataclasses import dataclass

from taskfleet.machine_terms import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image of an operating system that a provider has."""

    id: str
    """What it is launched by, such as ``ami-0abc``."""
    name: str
    """As its maker calls it, with the release and often the date."""
    architecture: Architecture
    created_at: float
    """Seconds since the epoch."""
    provider: str
