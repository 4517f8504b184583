"""Dates and times.

========================================  =============================================================================================
``{"$date": "2026-01-31"}``               ISO 8601
``{"$time": [text, zone, fold]}``         ISO 8601 without a zone; the zone; which of two equal times, when a clock is put back
``{"$datetime": [text, zone, fold]}``     likewise
``{"$timedelta": [d, s, us]}``            days, seconds, microseconds
========================================  =============================================================================================

A zone is null, the name of a zone of ``zoneinfo``, or the seconds of an offset, possibly with its name.
"""

import datetime
import sys
from collections.abc import Callable, Mapping
from typing import Any

from taskfleet.tables.values import JSON, Path, UnsupportedValueError


def _date(_conversion: object, value: datetime.date, _path: Path) -> JSON:
    return {"$date": value.isoformat()}


def _clock(_conversion: object, value: datetime.time | datetime.datetime, path: Path) -> JSON:
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return {f"${type(value).__name__}": [naive, zone_json(value.tzinfo, value, path), value.fold]}


def _timedelta(_conversion: object, value: datetime.timedelta, _path: Path) -> JSON:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def zone_json(zone: datetime.tzinfo | None, value: object, path: Path) -> JSON:
    """Return the zone of a value.

    Raises:
        UnsupportedValueError: It is of another kind than those of ``datetime`` and ``zoneinfo``.
    """
    if zone is None:
        return None
    if type(zone) is datetime.timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        seconds = offset / datetime.timedelta(seconds=1)
        return [seconds, *name] if name else seconds
    known = sys.modules.get("zoneinfo")
    key: str | None = getattr(zone, "key", None)
    if known is not None and type(zone) is known.ZoneInfo and key:
        return key
    raise UnsupportedValueError(
        path, value, f"its zone is a {type(zone).__name__}", "Use a zone of zoneinfo, or datetime.timezone."
    )


def restored_zone(zone: Any) -> datetime.tzinfo | None:
    """Return a zone.

    Raises:
        ValueError: There is no such zone.
    """
    if zone is None:
        return None
    if isinstance(zone, str):
        from zoneinfo import ZoneInfo

        try:
            return ZoneInfo(zone)
        except (KeyError, OSError) as error:
            raise ValueError(f"this system does not know the time zone {zone}") from error
    seconds, *name = zone if isinstance(zone, list) else [zone]
    return datetime.timezone(datetime.timedelta(seconds=seconds), *name)


def _restored_time(parts: Any) -> datetime.time:
    text, zone, fold = parts
    return datetime.time.fromisoformat(text).replace(tzinfo=restored_zone(zone), fold=fold)


def _restored_datetime(parts: Any) -> datetime.datetime:
    text, zone, fold = parts
    return datetime.datetime.fromisoformat(text).replace(tzinfo=restored_zone(zone), fold=fold)


RULES: Mapping[type, Callable[[Any, Any, Path], JSON]] = {
    datetime.date: _date,
    datetime.time: _clock,
    datetime.datetime: _clock,
    datetime.timedelta: _timedelta,
}

READERS: Mapping[str, Callable[[Any], Any]] = {
    "$date": datetime.date.fromisoformat,
    "$time": _restored_time,
    "$datetime": _restored_datetime,
    "$timedelta": lambda parts: datetime.timedelta(*parts),
}
