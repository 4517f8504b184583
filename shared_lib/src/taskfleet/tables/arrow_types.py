"""The types of Arrow whose values would change on their way through Python."""

from typing import Any

_EXTENSIONS = ("arrow.uuid", "arrow.json", "arrow.bool8")
"""Extension types whose values mean the same without the type."""


def unsupported_type(field: Any) -> str | None:
    """Return what is wrong with the type of a field and what to do, to follow the name of the column; None if nothing is."""
    return _unsupported(field, top=True)


def _unsupported(field: Any, *, top: bool) -> str | None:
    import pyarrow as pa

    kind = field.type
    # pyarrow leaves the name of a type that it does not know in the metadata.
    extension = getattr(kind, "extension_name", None) or (field.metadata or {}).get(b"ARROW:extension:name")
    if extension:
        name = extension.decode(errors="replace") if isinstance(extension, bytes) else extension
        if name in _EXTENSIONS:
            return None
        return f"has the extension type {name!r}, which has no JSON. Write its values as text, numbers or lists."
    if kind == pa.month_day_nano_interval():
        return "has intervals of months, days and nanoseconds. Write them as text, or as durations."
    if not top and kind == pa.time64("ns"):
        return "has times in nanoseconds inside lists or structs. Write them in microseconds (time64[us]), or as text."
    children = [kind.field(index) for index in range(kind.num_fields)]
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        children = [pa.field("", kind.value_type)]
    return next((reason for child in children if (reason := _unsupported(child, top=False))), None)
