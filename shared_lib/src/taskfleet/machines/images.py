"""Images of operating systems."""

from dataclasses import dataclass

from taskfleet.machine_terms import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image of an operating system at a provider."""

    id: str
    """The provider's ID or path, such as ``ami-0abc``."""
    name: str
    """The publisher's name, with the release and often the date."""
    architecture: Architecture
    created_at: float
    """Seconds since the epoch."""
    provider: str
