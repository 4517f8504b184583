"""Download of a table from a URL to a temporary file."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from taskfleet.errors import TableError

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60


@contextmanager
def downloaded(url: str, shown: str) -> Iterator[Path]:
    """Download ``url`` to a file that is deleted when the context ends; messages show ``shown`` instead of it.

    Raises:
        TableError: The host cannot be reached or responds with an error, or the download is incomplete.
    """
    handle, name = tempfile.mkstemp(prefix="taskfleet-table-")
    try:
        with os.fdopen(handle, "wb") as file:
            _fetch(url, shown, file.write)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _fetch(url: str, shown: str, write: Callable[[bytes], object]) -> None:
    logger.info("Downloading %s", shown)
    try:
        with urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            expected = response.headers.get("Content-Length")
            received = 0
            while chunk := response.read(_CHUNK_BYTES):
                write(chunk)
                received += len(chunk)
    except HTTPError as error:
        with error:
            raise TableError(
                f"{shown} cannot be downloaded: the server responded with {error.code} {error.reason}. "
                "Check the URL, and whether the file is public or the URL is signed."
            ) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise TableError(f"{shown} cannot be downloaded: {reason}. Check the URL and the network.") from error
    if expected is not None and expected.isdigit() and received != int(expected):
        raise TableError(f"{shown} was downloaded incompletely: {received} of {expected} bytes. Run the command again.")
    logger.info("Downloaded %s: %s bytes", shown, received)
