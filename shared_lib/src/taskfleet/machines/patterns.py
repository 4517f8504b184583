"""Patterns with ``*`` and ``?`` in requirements, and what to say about those that match nothing."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from taskfleet.machines.catalogue import Catalogue
from taskfleet.machines.needs import Need
from taskfleet.settings.globs import globs_of


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Return whether a text matches one of some patterns with ``*`` and ``?``, or there are no patterns."""
    patterns = list(patterns)
    return not patterns or any(fnmatchcase(text, pattern) for pattern in patterns)


def unmatched(need: Need, catalogue: Catalogue) -> tuple[str, ...]:
    """Return a sentence for each pattern or name in the requirements that matches nothing in the catalogue."""
    types = list(catalogue.types)
    families = sorted({one.cpu_family.lower() for one in catalogue.types.values()})
    zones = sorted({price.zone for prices in catalogue.prices.values() for price in prices})
    disks = list(dict.fromkeys(one.name for one in catalogue.disks))
    found = [*_notes("INSTANCE_TYPES", "instance type", need.instance_types, types)]
    found += _notes("EXCLUDE_INSTANCE_TYPES", "instance type", need.exclude_instance_types, types)
    found += _notes("CPU_FAMILIES", "CPU family", [one.lower() for one in need.cpu_families], families)
    found += _notes("ZONES", "zone", need.zones, zones)
    found += [
        f"BOOT_DISK_TYPES: no machine of {catalogue.provider} can boot from {name}; the types are {', '.join(disks)}."
        for name in need.boot_disk_types
        if name not in disks
    ]
    return tuple(found)


def _notes(setting: str, what: str, patterns: Iterable[str], names: Sequence[str]) -> Iterable[str]:
    for pattern in patterns:
        if any(fnmatchcase(name, pattern) for name in names):
            continue
        meant = globs_of(pattern)
        is_better = any(fnmatchcase(name, one) for one in meant for name in names)
        separator = ", " if setting == "CPU_FAMILIES" else " "
        hint = (
            f" It is a pattern with * and ?, not a regular expression: write {separator.join(meant)}."
            if is_better
            else ""
        )
        yield f"{setting}: no {what} matches {pattern}.{hint}"
