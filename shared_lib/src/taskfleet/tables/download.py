"""Download of a table from a URL to a temporary file."""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from taskfleet.errors import TableError
from taskfleet.tables.limits import MAX_DOWNLOAD_BYTES
from taskfleet.tables.web import RefusedError, open_url

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_MIN_BYTES_PER_SECOND = 1 << 10


@contextmanager
def downloaded(url: str, shown: str) -> Iterator[Path]:
    """Download ``url`` to a file that is deleted when the context ends; messages show ``shown`` instead of it.

    Raises:
        TableError: The host cannot be reached or responds with an error, or the download is incomplete, too slow or too large.
    """
    handle, name = tempfile.mkstemp(prefix="taskfleet-table-")
    try:
        with os.fdopen(handle, "wb") as file:
            _fetch(url, shown, _writer(file.write, shown, os.path.dirname(name)))
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _writer(write: Callable[[bytes], object], shown: str, folder: str) -> Callable[[bytes], None]:
    """Return a function that writes a part of a download, up to MAX_DOWNLOAD_BYTES in total."""
    total = 0

    def write_part(part: bytes) -> None:
        nonlocal total
        total += len(part)
        if total > MAX_DOWNLOAD_BYTES:
            raise TableError(_too_large(shown))
        try:
            write(part)
        except OSError as error:
            raise TableError(
                f"{shown} cannot be stored in {folder} after {total} bytes: {error.strerror}. Set TMPDIR to a folder with more space."
            ) from error

    return write_part


def _too_large(shown: str) -> str:
    return (
        f"{shown} has more than {MAX_DOWNLOAD_BYTES / (1 << 30):g} GiB, the most that is downloaded. Download it with another program and "
        "name the file, or split it."
    )


def _fetch(url: str, shown: str, write: Callable[[bytes], None]) -> None:
    logger.info("Downloading %s", shown)
    try:
        with open_url(url, timeout_seconds=_TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length")
            expected = int(length) if length and length.isdecimal() else None
            if expected is not None and expected > MAX_DOWNLOAD_BYTES:
                raise TableError(_too_large(shown))
            received = 0
            since, before = time.monotonic(), 0
            while chunk := response.read1(_CHUNK_BYTES):
                write(chunk)
                received += len(chunk)
                if (seconds := time.monotonic() - since) >= _TIMEOUT_SECONDS:
                    if received - before < _MIN_BYTES_PER_SECOND * seconds:
                        raise TimeoutError(f"less than {_MIN_BYTES_PER_SECOND} bytes per second arrived")
                    since, before = time.monotonic(), received
    except RefusedError as error:
        raise TableError(f"{shown} cannot be downloaded: {error}") from None
    except HTTPError as error:
        with error:
            raise TableError(
                f"{shown} cannot be downloaded: the server responded with {error.code} {error.reason}. "
                "Check the URL, and whether the file is public or the URL is signed."
            ) from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise TableError(f"{shown} cannot be downloaded: {reason}. Check the URL and the network.") from error
    if expected is not None and received != expected:
        raise TableError(f"{shown} was downloaded incompletely: {received} of {expected} bytes. Run the command again.")
    logger.info("Downloaded %s: %s bytes", shown, received)
