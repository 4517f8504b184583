"""Encodes the arguments of calls: values as JSON, futures as references to the tasks whose results they stand for."""

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, Protocol

from taskfleet.errors import ArgumentsError, UsageError
from taskfleet.graph.binding import Binder
from taskfleet.graph.futures import Future, Futures, Source
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.edges import Needs
from taskfleet.references import Store, encode
from taskfleet.references.rules import REMEDY
from taskfleet.script_import import Absent
from taskfleet.tables.values import JSON, UnsupportedValueError, path_text, shown

#: The key under which the data of a call have the arguments of ``*args``.
STAR = "*"
_REMEDY = "Pass a supported type, or write a file and pass its Path."


@lru_cache(maxsize=1000)
def _key(name: str) -> str:
    return f"{json.dumps(name)}:"


class Constant(NamedTuple):
    """An argument that is the same for all calls of a map."""

    value: Any


class Succeeded(NamedTuple):
    """The results of those tasks that succeed."""

    futures: Futures


def constant(value: Any) -> Any:
    """Return an argument of ``App.map`` that all calls get as it is, such as a list."""
    return Constant(value)


def succeeded(futures: Futures) -> Any:
    """Return an argument that is the list of the results of those tasks that succeed; the others do not fail the call.

    Args:
        futures: What ``App.map`` returned.
    """
    if isinstance(futures, Absent):
        return futures
    if not isinstance(futures, Futures):
        raise ArgumentsError(f"succeeded() takes what map returned, not {futures!r:.100}")
    return Succeeded(futures)


class Encoded(NamedTuple):
    """The arguments of a call."""

    data: str
    """A JSON object."""
    parents: tuple[Parents, ...]
    """The tasks whose results it has."""


class Called(Protocol):
    """What the encoder needs of an app; see ``apps.App``."""

    signature: inspect.Signature
    binder: Binder
    may_pickle: bool

    @property
    def name(self) -> str:
        """The name of the function."""

    @property
    def full_name(self) -> str:
        """Its name in the ledger."""


class Encoder:
    """Encodes the arguments of calls.

    Args:
        flow: The flow of the calls.
        store: Where large values are written.
    """

    def __init__(self, flow: Source, store: Store) -> None:
        self._flow = flow
        self._store = store

    def call(self, app: Called, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Encoded:
        """Return the arguments of one call.

        Raises:
            ArgumentsError: They do not match the parameters of the function.
            UsageError: A value cannot be passed to another process.
        """
        named = app.binder.bind(args, kwargs)
        if named is None:
            named = bind(app.name, app.signature, args, kwargs)
        found: dict[Parents, None] = {}
        parts = []
        for name, value in named.items():
            if type(value) is Future:
                self._check(value)
                found[value.parents()] = None
                parts.append(f'{_key(name)}{{"$task":"{value.id}"}}')
            else:
                parts.append(f"{_key(name)}{self.value(app, name, value, found)}")
        return Encoded(f"{{{','.join(parts)}}}", tuple(found))

    def columns(
        self, app: Called, columns: Mapping[str, Sequence[Any]], constants: Mapping[str, str], over: str | None
    ) -> tuple[list[str], list[tuple[Parents, ...]]]:
        """Return the arguments of the calls of a map.

        Args:
            app: The function.
            columns: By parameter, a value for each call.
            constants: By parameter, the JSON text of the value for all calls.
            over: The parameter whose parents are dealt with elsewhere.

        Returns:
            The data of each call, and the tasks that it refers to; these are empty if no call has any.
        """
        texts, parents = [], []
        for key, items in columns.items():
            of_column: list[dict[Parents, None]] = []
            texts.append(self._column(app, key, items, None if key == over else of_column))
            if of_column:
                parents.append(of_column)
        rest = [f"{_key(key)}{text}" for key, text in constants.items()]
        if len(texts) == 1 and not rest:
            data = [f"{{{text}}}" for text in texts[0]]
        else:
            data = [f"{{{','.join([*parts, *rest])}}}" for parts in zip(*texts, strict=True)]
        return data, [tuple(dict.fromkeys(chain(*of_call))) for of_call in zip(*parents, strict=True)]

    def _column(
        self, app: Called, key: str, items: Sequence[Any], found: list[dict[Parents, None]] | None
    ) -> list[str]:
        """Return the texts of a parameter with its name, and add the tasks that each refers to, if any does and if they are wanted."""
        name = _key(key)
        if isinstance(items, Futures):
            self._check(items)
            if found is not None:
                found += [{Parents(seq, seq): None} for seq in items.seqs]
            return [f'{name}{{"$task":"{task_id}"}}' for task_id in items.ids()]
        if type(items) is range:
            return [f"{name}{item}" for item in items]
        texts, any_found = [], False
        of_items: list[dict[Parents, None]] = []
        for item in items:
            of_item: dict[Parents, None] = {}
            texts.append(f"{name}{self.value(app, key, item, of_item)}")
            of_items.append(of_item)
            any_found = any_found or bool(of_item)
        if any_found and found is not None:
            found += of_items
        return texts

    def value(self, app: Called, name: str, value: Any, found: dict[Parents, None]) -> str:
        """Return the value of a parameter as JSON text, and add the tasks that it refers to.

        Raises:
            UsageError: It cannot be passed to another process.
        """

        def reference(part: object) -> JSON:
            if isinstance(part, Future):
                self._check(part)
                found[part.parents()] = None
                return {"$task": part.id}
            if isinstance(part, Futures | Succeeded):
                needs = Needs.END if isinstance(part, Succeeded) else Needs.SUCCESS
                futures = part.futures if isinstance(part, Succeeded) else part
                self._check(futures)
                found.update(dict.fromkeys(Parents(first, last, needs) for first, last in futures.runs()))
                return {"$succeeded" if isinstance(part, Succeeded) else "$results": futures.map_id()}
            return None

        try:
            return encode(value, self._store, special=reference, pickle=app.may_pickle).decode()
        except UnsupportedValueError as error:
            place = path_text((name, *error.path))
            raise UsageError(
                f"{app.name}: the argument {place} is {shown(error.value)} ({type(error.value).__name__}): {error.reason}. "
                f"{error.remedy.replace(REMEDY, _REMEDY)}"
            ) from None

    def _check(self, future: Future | Futures) -> None:
        if future.flow is not self._flow:
            raise UsageError(
                f"{future!r} belongs to another flow, whose tasks this one does not have. Make both calls in one flow, or pass "
                "its result()."
            )


def bind(function: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by the names of its parameters.

    Raises:
        ArgumentsError: They do not match.
    """
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise ArgumentsError(f"{function}{signature}: {error}") from None
    named: dict[str, Any] = {}
    for name, value in bound.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            named[STAR] = list(value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            if clashing := sorted(named.keys() & value.keys() | {STAR} & value.keys()):
                raise ArgumentsError(f"{function}{signature}: the name {clashing[0]!r} cannot be one of **{name}")
            named |= value
        else:
            named[name] = value
    return named
