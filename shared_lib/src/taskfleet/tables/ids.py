"""The ids of tasks: the rules for those a table gives, and those made from a task's content."""

import re
from collections.abc import Iterable

from taskfleet.tables.values import shown, to_json

MAX_ID_CHARACTERS = 512
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f-\x9f]"

_control = re.compile(CONTROL_CHARACTERS).search


def id_text(value: object) -> str:
    """Return a table's task id as text; numbers become their decimal text.

    Raises:
        ValueError: it is null, empty, too long, has control characters, or is neither text nor a number. The message lacks
            the row.
    """
    known = to_json(value, ("task_id",))
    if isinstance(known, bool) or not isinstance(known, int | float | str | None):
        raise ValueError(f"task_id {shown(value)} ({type(value).__name__}) is not an id; write a text or a number")
    text = "" if known is None else str(known)
    if not text:
        raise ValueError(f"task_id is {'null' if known is None else 'empty'}; give every row a task_id, or none")
    if len(text) > MAX_ID_CHARACTERS:
        raise ValueError(f"task_id {shown(text)} has {len(text)} characters; write at most {MAX_ID_CHARACTERS}")
    if _control(text):
        raise ValueError(f"task_id {shown(text)} has a control character; write it without")
    return text


def content_id(data: str) -> str:
    """Make a task's id from its JSON text: 20 hexadecimal digits, the same for the same text wherever it is made."""
    return content_ids([data])[0]


def content_ids(data: Iterable[str]) -> list[str]:
    """Make the ids of many tasks, in their order."""
    from hashlib import blake2b  # slow to import, and most commands make no ids

    return [blake2b(text.encode(), digest_size=10).hexdigest() for text in data]
