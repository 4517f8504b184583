"""Task ids: validation of ids in tables, and ids derived from the content of a task."""

import re
from collections.abc import Iterable

from taskfleet.tables.values import shown, to_json

MAX_ID_CHARACTERS = 512
CONTROL_CHARACTERS = r"[\x00-\x1f\x7f-\x9f]"

_control = re.compile(CONTROL_CHARACTERS).search


def id_text(value: object) -> str:
    """Return a task id of a table as text; numbers become decimal text.

    Raises:
        ValueError: The id is null, empty or too long, has control characters, or is neither text nor a number. The message does not
            name the row.
    """
    known = to_json(value, ("task_id",))
    if isinstance(known, bool) or not isinstance(known, int | float | str | None):
        raise ValueError(f"task_id {shown(value)} ({type(value).__name__}) is not an ID. Write text or a number.")
    text = "" if known is None else str(known)
    if not text:
        raise ValueError(f"task_id is {'null' if known is None else 'empty'}. Give every row a task_id, or none.")
    if len(text) > MAX_ID_CHARACTERS:
        raise ValueError(f"task_id {shown(text)} has {len(text)} characters. Write at most {MAX_ID_CHARACTERS}.")
    if _control(text):
        raise ValueError(f"task_id {shown(text)} has a control character. Remove it.")
    return text


def content_id(data: str) -> str:
    """Return the id of a task, derived from its JSON text: 20 hexadecimal digits that depend on the text only."""
    return content_ids([data])[0]


def content_ids(data: Iterable[str]) -> list[str]:
    """Return the ids of many tasks, in their order."""
    from hashlib import blake2b  # slow to import, and most commands do not need it

    return [blake2b(text.encode(), digest_size=10).hexdigest() for text in data]
