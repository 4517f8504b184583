"""Functions as workers get them: pickled by value, because a script or a notebook defines them."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from taskfleet.desipipe.values import pickled, restored
from taskfleet.worker import stored_functions
from taskfleet.worker.graph_calls import in_order

#: The parameter that gets the communicator of the MPI processes that call the function.
MPICOMM = "mpicomm"


class StoredFunction(stored_functions.StoredFunction):
    """A function of a script, which is called with the data that ``values.Encoder`` makes.

    Args:
        function: The function.
        is_bash: Whether it returns a command.
        folders: From where it imports modules.
    """

    may_pickle = True  # also of those that an earlier version has stored

    def __init__(self, function: Callable[..., Any], *, is_bash: bool, folders: Sequence[str]) -> None:
        super().__init__(pickled(function)[0], is_bash=is_bash, may_pickle=True, folders=folders)

    def load(self) -> Callable[..., Any]:
        """Return what takes the data of a task."""
        function = super().load()
        signature = inspect.signature(function)

        def call(index: int, arguments: dict[str, Any], mpicomm: Any = None) -> Any:  # noqa: ARG001
            named = {name: restored(value) for name, value in arguments.items()}
            if MPICOMM in signature.parameters and named.get(MPICOMM) is None:
                named[MPICOMM] = mpicomm
            bound = inspect.BoundArguments(signature, in_order(signature, named))
            return function(*bound.args, **bound.kwargs)

        return call
