"""The files that JSON text refers to."""

import json
from collections.abc import Iterator
from typing import Any

from taskfleet.references.contents import parse_reference
from taskfleet.references.store import Store


def names_of_files(text: bytes | str, store: Store | None = None) -> set[str]:
    """Return the names of the files of the store that a value has, without reading the value.

    Args:
        text: The JSON text of the value.
        store: The store. Without it, the files that are named in a JSON file are not among them.

    Raises:
        UnreadableValueError: A reference is damaged.
        LostFileError: A JSON file is missing or damaged.
        StoreError: A JSON file cannot be read.
    """
    if isinstance(text, bytes):
        text = text.decode()
    names: set[str] = set()
    texts = [text]
    while texts:
        text = texts.pop()
        if '"$file"' not in text:
            continue
        for reference in _references(json.loads(text)):
            file, kind = parse_reference(reference)
            if kind == "json" and store is not None and file.name not in names:
                texts.append(store.read(file, bytes).decode())
            names.add(file.name)
    return names


def _references(tree: Any) -> Iterator[Any]:
    """Yield the contents of the ``$file`` objects of a tree. A dict of a user that looks like one is in a ``$dict`` object."""
    if isinstance(tree, dict):
        if len(tree) == 1:
            [(key, content)] = tree.items()
            if key == "$file":
                yield content
                return
            if key == "$dict":
                tree = content
        for item in tree.values():
            yield from _references(item)
    elif isinstance(tree, list):
        for item in tree:
            yield from _references(item)
