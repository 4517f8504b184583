"""Format suggested commands as the user would type them, so that they can be copied."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence

FlagsFor = Callable[[str], Sequence[str]]
"""Returns, for the name of a command, flags and values in turn."""


def _no_flags(_: str) -> Sequence[str]:
    return ()


_flags_for: FlagsFor = _no_flags


def poe(command: str) -> str:
    """Return a command as the user would type it.

    Args:
        command: As after ``poe``, for example ``retry --killed``. The flags that the user gave to the running command and that this
            command has too (``-e FILE`` above all) are added behind its name, except those that it has already.
    """
    name, _, rest = command.partition(" ")
    given = _flags_for(name)
    flags = [word for pair in zip(given[::2], given[1::2], strict=True) if pair[0] not in rest.split() for word in pair]
    return " ".join(filter(None, [prefix(os.environ), name, shlex.join(flags), rest]))


def prefix(environ: Mapping[str, str]) -> str:
    """Return ``poe`` if the user typed that, and ``uv run poe``, which works in every project, otherwise.

    Poe starts commands with ``uv run``, so uv has been entered once when the user typed ``poe``, and twice for ``uv run poe``.
    """
    typed_poe = "POE_ACTIVE" in environ and environ.get("UV_RUN_RECURSION_DEPTH", "0") in ("0", "1")
    return "poe" if typed_poe else "uv run poe"


def remember_flags(flags_for: FlagsFor) -> None:
    """Set the function that returns, for the name of a command, the given flags that it has too."""
    global _flags_for
    _flags_for = flags_for
