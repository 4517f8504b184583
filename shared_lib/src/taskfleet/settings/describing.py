"""The descriptions of all settings, for files, flags, help and documentation."""

import dataclasses
from functools import cache
from typing import Any

from taskfleet.settings.declaring import Field
from taskfleet.settings.fields import Settings
from taskfleet.settings.parsers import switch
from taskfleet.settings.pool_fields import PoolSettings
from taskfleet.settings.provider_fields import PROVIDER_SETTINGS

#: Every settings class.
KINDS: tuple[type, ...] = (Settings, PoolSettings, *PROVIDER_SETTINGS)


@cache
def describe() -> tuple[Field, ...]:
    """Return the descriptions of all settings, in display order."""
    return tuple(_describe(field) for kind in KINDS for field in dataclasses.fields(kind))


def _describe(field: "dataclasses.Field[Any]") -> Field:
    details = dict(field.metadata)
    details["flag"] = details["flag"] or "--" + field.name.replace("_", "-")
    return Field(name=field.name.upper(), is_switch=details["parse"] is switch, **details)
