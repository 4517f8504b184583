"""A table behind a web address, fetched into a temporary file."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from taskfleet.errors import TableError

_CHUNK_BYTES = 1 << 20
_SILENCE_SECONDS = 60


@contextmanager
def downloaded(url: str, shown: str) -> Iterator[Path]:
    """Fetch `url` into a file that is deleted when the context ends; `shown` stands for it in messages.

    Raises:
        TableError: the host cannot be reached, answers with an error, or the file arrives incomplete.
    """
    handle, name = tempfile.mkstemp(prefix="taskfleet-table-")
    try:
        with os.fdopen(handle, "wb") as file:
            _fetch(url, shown, file.write)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _fetch(url: str, shown: str, write: Callable[[bytes], object]) -> None:
    try:
        with urlopen(url, timeout=_SILENCE_SECONDS) as answer:
            promised = answer.headers.get("Content-Length")
            received = 0
            while chunk := answer.read(_CHUNK_BYTES):
                write(chunk)
                received += len(chunk)
    except HTTPError as error:
        with error:
            raise TableError(
                f"{shown} cannot be fetched: the server answered {error.code} {error.reason}; "
                "check the address, and whether the file is public or the address signed"
            ) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise TableError(f"{shown} cannot be fetched: {reason}; check the address and the network") from error
    if promised is not None and promised.isdigit() and received != int(promised):
        raise TableError(f"{shown} arrived incomplete: {received} of {promised} bytes; try again")
