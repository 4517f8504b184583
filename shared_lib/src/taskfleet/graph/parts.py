"""Calls that a task returns: it is replaced by them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskfleet.graph.arguments import Called, bind
from taskfleet.graph.identity import task_ids


class Part:
    """A call that is made inside a task with ``App.future``. It can be returned, or be an argument of another one."""

    __slots__ = ("_app", "_args", "_kwargs")

    def __init__(self, app: Called, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._app = app
        self._args = args
        self._kwargs = kwargs

    def as_call(self, encode: Callable[[object], str]) -> tuple[str, str, str]:
        """Return the call: its id, the name of the function as the ledger has it, and its data.

        Args:
            encode: Returns an argument as JSON text.
        """
        app = self._app
        named = app.binder.bind(self._args, self._kwargs)
        if named is None:
            named = bind(app.name, app.signature, self._args, self._kwargs)
        data = f"{{{','.join(f'{json.dumps(key)}:{encode(value)}' for key, value in named.items())}}}"
        return task_ids(app.name, [data])[0], app.full_name, data

    def __repr__(self) -> str:
        """Return the function."""
        return f"<call of {self._app.name} inside a task>"
