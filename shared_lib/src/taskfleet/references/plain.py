"""Values as people and tables see them: what JSON cannot say becomes its nearest form, without reading files or importing classes."""

from collections.abc import Callable
from typing import Any, TypeAlias

JSON: TypeAlias = Any
#: Containers that become lists, and tags whose content is a text or a number that says enough.
_LISTS = ("$tuple", "$set", "$frozenset")
_TEXTS = ("$decimal", "$path", "$uuid", "$date", "$bytes", "$bytearray")


def plain(tree: JSON, file_address: Callable[[str], str] = str) -> JSON:
    """Return a value in the form that tables and texts show.

    Tuples and sets become lists; dates, paths and decimal numbers texts; durations seconds; a file of the store its address; the result of
    a task its id. What has no such form stays as it is stored.

    Args:
        tree: JSON as in a ledger.
        file_address: Returns the address of a file of the store by its name.
    """
    if isinstance(tree, list):
        return [plain(item, file_address) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        [(tag, content)] = tree.items()
        if tag.startswith("$"):
            return _plain_tag(tag, content, file_address)
    return {key: plain(item, file_address) for key, item in tree.items()}


def _plain_tag(tag: str, content: JSON, file_address: Callable[[str], str]) -> JSON:
    if tag in _LISTS and isinstance(content, list):
        return [plain(item, file_address) for item in content]
    if tag in _TEXTS and isinstance(content, str):
        return content
    try:
        match tag:
            case "$task":
                return str(content)
            case "$results" | "$succeeded":
                return f"{tag[1:]} of the map {content}"
            case "$float":
                return float(content)
            case "$int":
                return hex(int(content, 16))  # Python refuses to write so many digits in decimal
            case "$time" | "$datetime":
                return _with_zone(*content[:2])
            case "$timedelta":
                days, seconds, microseconds = content
                return days * 86400 + seconds + microseconds / 1e6
            case "$dict":
                return {key: plain(item, file_address) for key, item in content.items()}
            case "$map":
                return [[plain(key, file_address), plain(item, file_address)] for key, item in content]
            case "$file":
                return file_address(str(content["name"]))
            case "$object":
                return {key: plain(item, file_address) for key, item in content[1].items()}
            case "$enum":
                return str(content[1])
    except (TypeError, ValueError, LookupError, AttributeError):
        pass
    return {tag: content}


def _with_zone(text: str, zone: JSON) -> str:
    """Return a time with its zone: a name, or an offset in seconds, possibly with a name."""
    if zone is None:
        return text
    if isinstance(zone, str):
        return f"{text} {zone}"
    seconds = zone[0] if isinstance(zone, list) else zone
    sign, minutes = "-" if seconds < 0 else "+", round(abs(seconds) / 60)
    return f"{text}{sign}{minutes // 60:02}:{minutes % 60:02}"
