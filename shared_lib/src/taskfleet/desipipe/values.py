"""The arguments of calls as JSON text. What the types of JSON and of numpy, pandas and pyarrow cannot express is pickled."""

import io
import json
import pickle
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from taskfleet.code_versions.objects import code_digest
from taskfleet.errors import UsageError
from taskfleet.extras import require
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.references import INLINE_BYTES, Store, encode
from taskfleet.references.contents import Content
from taskfleet.references.rules import has_rule
from taskfleet.tables.values import JSON, UnsupportedValueError

#: Begins a tuple that stands for a pickled value.
MARK = "taskfleet.desipipe.pickled"


class Encoded(NamedTuple):
    """The arguments of a call."""

    text: str
    """A JSON object."""
    identity: str
    """The part of the call's identity that depends on its arguments."""
    parents: tuple[Parents, ...]


class Encoder:
    """Encodes the arguments of one call after the other.

    Args:
        store: Where large values are written.
        filename: The queue of the calls.
    """

    def __init__(self, store: Store, filename: str) -> None:
        self._store = store
        self._filename = filename

    def encode(self, arguments: Mapping[str, Any]) -> Encoded:
        """Return arguments as JSON text.

        Raises:
            UsageError: One is a future of another queue.
            UnsupportedValueError: One cannot be pickled.
        """
        one = _Call(self._store, self._filename)
        parts = [f"{json.dumps(name)}:{one.encode(value)}" for name, value in arguments.items()]
        text = f"{{{','.join(parts)}}}"
        identity = text
        for shown, digest in one.stand_ins:
            identity = identity.replace(shown, digest)
        return Encoded(text, identity, tuple(dict.fromkeys(one.parents)))


class _Call:
    def __init__(self, store: Store, filename: str) -> None:
        self._store = store
        self._filename = filename
        self.parents: list[Parents] = []
        self.stand_ins: list[tuple[str, str]] = []
        """What is written for functions, and the digest of their code, which does not change with the lines above them."""

    def encode(self, value: Any) -> str:
        """Return a value as JSON text."""
        if is_future(value) or not has_rule(type(value)):  # so that nothing is skipped because it looks plain
            return _text(self._special(value))
        try:
            return encode(value, self._store, special=self._special).decode()
        except UnsupportedValueError:
            return _text(self._pickled(value))

    def _special(self, part: object) -> JSON:
        if is_future(part):
            return self._future(part)
        return self._pickled(part) if not has_rule(type(part)) else None

    def _future(self, future: Any) -> JSON:
        if future.queue.filename != self._filename:
            raise UsageError(f"{future!r} belongs to the queue {future.queue.filename}. Pass its result().")
        self.parents.append(Parents(future.seq, future.seq))
        return {"$task": future.id}

    def _pickled(self, value: object) -> JSON:
        data, futures = pickled(value)
        tree: JSON = {"$tuple": [MARK, self._bytes(data), [self._future(one) for one in futures]]}
        if callable(value):
            self.stand_ins.append((_text(tree), code_digest(value)))
        return tree

    def _bytes(self, data: bytes) -> JSON:
        if len(data) * 4 // 3 <= INLINE_BYTES // 2:
            return {"$bytes": b64encode(data).decode()}
        file = self._store.write(Content(kind="bin", size=len(data), write=lambda write: write(data)))
        return {"$file": file.reference("bin")}


def _text(tree: JSON) -> str:
    return json.dumps(tree, separators=(",", ":"))


def is_future(value: object) -> bool:
    """Return whether a value is the future of a call."""
    return getattr(type(value), "is_desipipe_future", False)


def pickled(value: object) -> tuple[bytes, list[Any]]:
    """Return a value, pickled, and the futures in it, which the pickle refers to by their places.

    Raises:
        MissingPackageError: cloudpickle is not installed.
        UnsupportedValueError: It cannot be pickled.
    """
    require("cloudpickle", "taskfleet.desipipe")
    import cloudpickle

    futures: list[Any] = []

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, part: object) -> int | None:
            if not is_future(part):
                return None
            futures.append(part)
            return len(futures) - 1

    file = io.BytesIO()
    try:
        Pickler(file).dump(value)
    except Exception as error:  # whatever the classes of its parts raise
        raise UnsupportedValueError((), value, f"it cannot be pickled ({error})", "Pass data only.") from error
    return file.getvalue(), futures


def unpickled(data: bytes, results: list[Any]) -> Any:
    """Return a pickled value, with results in place of the futures."""

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, place: int) -> Any:
            return results[place]

    return Unpickler(io.BytesIO(data)).load()


def restored(value: Any, other: Callable[[Any], Any] = lambda value: value) -> Any:
    """Return a decoded argument with its pickled parts restored.

    Args:
        value: The argument.
        other: Called with each dict; returns what stands for it.
    """
    if type(value) is tuple and len(value) == 3 and value[0] == MARK:
        return unpickled(value[1], [restored(one, other) for one in value[2]])
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(restored(one, other) for one in value)
    if type(value) is dict:
        found = other(value)
        return {key: restored(item, other) for key, item in value.items()} if found is value else found
    return value
