"""All settings, described for files, flags, help and documentation."""

import dataclasses
from functools import cache
from typing import Any

from taskfleet.settings.declaring import Field
from taskfleet.settings.fields import Settings
from taskfleet.settings.parsers import switch
from taskfleet.settings.pool_fields import PoolSettings
from taskfleet.settings.provider_fields import PROVIDER_SETTINGS

#: Every class of settings.
KINDS: tuple[type, ...] = (Settings, PoolSettings, *PROVIDER_SETTINGS)


@cache
def describe() -> tuple[Field, ...]:
    """Describe all settings, in the order in which they are shown."""
    return tuple(_describe(field) for kind in KINDS for field in dataclasses.fields(kind))


def _describe(field: "dataclasses.Field[Any]") -> Field:
    details = dict(field.metadata)
    details["flag"] = details["flag"] or "--" + field.name.replace("_", "-")
    return Field(name=field.name.upper(), is_switch=details["parse"] is switch, **details)
