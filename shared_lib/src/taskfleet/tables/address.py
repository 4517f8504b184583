"""The location and the format of a table, and access to its bytes.

A table is a local path (or ``file://``), ``s3://``, ``gs://``, ``https://`` or ``http://``. Buckets are read in place with ``pyarrow.fs``;
a URL is downloaded to a temporary file first, because readers of Feather and Parquet start at the end of a file.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from taskfleet.errors import TableError
from taskfleet.tables.values import one_line

FORMATS = {
    ".feather": "feather",
    ".arrow": "feather",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".yaml": "yaml",
    ".yml": "yaml",
}
"""The format of each file suffix."""

_GZIPPED_FORMATS = ("csv", "json", "jsonl")
_NETWORK_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The location and the format of a table; messages show ``text``, which has no passwords and signatures."""

    text: str
    scheme: str
    location: str
    format: str
    gzipped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TableBytes:
    """Access to the bytes of a table; each call opens them again, at the start."""

    stream: Callable[[], BinaryIO]
    random_access: Callable[[], Any]


def parse_address(source: str | os.PathLike[str]) -> Address:
    """Parse an address without opening it.

    Raises:
        TableError: The scheme or the suffix is not supported.
    """
    text = os.fspath(source)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _address(text, "local", os.path.expanduser(text), name=text)
    scheme = scheme.lower()
    if scheme == "file":
        from urllib.request import url2pathname

        path = url2pathname(rest.removeprefix("localhost"))
        return _address(text, "local", path, name=path)
    if scheme in ("s3", "gs"):
        return _address(f"{scheme}://{rest}", scheme, rest, name=rest)
    if scheme in ("http", "https"):
        path = rest.partition("#")[0].partition("?")[0]
        host, slash, tail = path.partition("/")
        shown = f"{scheme}://{host.rpartition('@')[2]}{slash}{tail}"
        return _address(shown, scheme, text, name=path)
    raise TableError(f"{text}: {scheme}:// is not supported. Use a path, s3://, gs:// or https://.")


def _address(shown: str, scheme: str, location: str, *, name: str) -> Address:
    lowered = name.lower()
    gzipped = lowered.endswith(".gz")
    suffix = os.path.splitext(lowered.removesuffix(".gz"))[1]
    known = FORMATS.get(suffix)
    if known is None or (gzipped and known not in _GZIPPED_FORMATS):
        suffixes = " ".join([*FORMATS, *(f".{name}.gz" for name in _GZIPPED_FORMATS)])
        ending = f"the suffix {suffix + '.gz' * gzipped!r}" if suffix else "no suffix"
        raise TableError(f"{shown} has {ending}, which is not a supported table format. Use one of {suffixes}")
    return Address(text=shown, scheme=scheme, location=location, format=known, gzipped=gzipped)


def check_local(address: Address) -> None:
    """Check that a local file exists, is not a directory and not empty; do nothing for other addresses.

    Raises:
        TableError: The check failed.
    """
    if address.scheme != "local":
        return
    try:
        if not os.path.exists(address.location):
            raise FileNotFoundError
        if os.path.isdir(address.location):
            raise IsADirectoryError
        if os.path.getsize(address.location) == 0:
            raise EmptyFileError
    except (OSError, ValueError, EmptyFileError) as error:
        raise table_error(error, address) from error


class EmptyFileError(Exception):
    """A file has 0 bytes."""


def table_error(error: Exception, address: Address, rows_read: int = 0) -> TableError:
    """Return the error that explains an exception of another library for the table at ``address``."""
    shown = address.text
    if isinstance(error, FileNotFoundError):
        return TableError(f"{shown} does not exist. Check the path (relative paths start at {Path.cwd()}).")
    if isinstance(error, IsADirectoryError):
        return TableError(f"{shown} is a directory. Name one file in it.")
    if isinstance(error, PermissionError):
        return TableError(f"{shown} cannot be read: permission denied. Change its permissions or your credentials.")
    if isinstance(error, EmptyFileError):
        return TableError(f"{shown} is empty (0 bytes). Write the table again.")
    where = f" after row {rows_read}" if rows_read else ""
    reason = one_line(error, 300) or type(error).__name__
    if address.scheme != "local" and isinstance(error, OSError):
        return TableError(
            f"{shown} cannot be read{where}: {reason}. Check the address, the network, your credentials and the region."
        )
    written = f"{address.format} file" + " (gzipped)" * address.gzipped
    return TableError(
        f"{shown} cannot be read as a {written}{where}: {reason}. The file is damaged, truncated or in another format: "
        "write it again, or rename it with the suffix of its format."
    )


@contextmanager
def opened(address: Address) -> Iterator[TableBytes]:
    """Provide access to the bytes of a table while the context lasts.

    Raises:
        TableError: A URL cannot be downloaded. Exceptions of the file system are passed on.
    """
    if address.scheme == "local":
        check_local(address)
        yield _local_bytes(address.location, address.gzipped)
    elif address.scheme in ("http", "https"):
        from taskfleet.tables.download import downloaded

        with downloaded(address.location, address.text) as path:
            if path.stat().st_size == 0:
                raise EmptyFileError
            yield _local_bytes(str(path), address.gzipped)
    else:
        filesystem = s3_filesystem(address.location) if address.scheme == "s3" else gs_filesystem()
        yield _bucket_bytes(filesystem, address)


def _local_bytes(path: str, gzipped: bool) -> TableBytes:
    def random_access() -> Any:
        import pyarrow

        return pyarrow.memory_map(path, "r")

    return TableBytes(stream=lambda: _unzipped(open(path, "rb"), gzipped), random_access=random_access)


def _bucket_bytes(filesystem: Any, address: Address) -> TableBytes:
    import io

    from pyarrow.fs import FileType

    path = address.location
    info = filesystem.get_file_info(path)
    if info.type == FileType.NotFound:
        raise TableError(f"{address.text} does not exist. Check the bucket, the name and your credentials.")
    if info.type == FileType.Directory:
        raise IsADirectoryError
    if info.size == 0:
        raise EmptyFileError
    return TableBytes(
        stream=lambda: _unzipped(
            cast(BinaryIO, io.BufferedReader(filesystem.open_input_stream(path, compression=None), 1 << 20)),
            address.gzipped,
        ),
        random_access=lambda: filesystem.open_input_file(path),
    )


def _unzipped(raw: BinaryIO, gzipped: bool) -> BinaryIO:
    if not gzipped:
        return raw
    import gzip

    # GzipFile closes a file that it did not open only if the file is its myfileobj.
    zipped = gzip.GzipFile(fileobj=raw)
    zipped.myfileobj = cast(Any, raw)
    return cast(BinaryIO, zipped)


def s3_filesystem(path: str) -> Any:
    """Open S3, or the service at AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL, in the region of the environment."""
    from pyarrow.fs import S3FileSystem, resolve_s3_region

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        scheme, separator, host = endpoint.rstrip("/").rpartition("://")
        return S3FileSystem(
            endpoint_override=host, scheme=scheme if separator else "https", region=region or "us-east-1"
        )
    return S3FileSystem(region=region or resolve_s3_region(path.partition("/")[0]))


def gs_filesystem() -> Any:
    """Open Google Cloud Storage, or the emulator at STORAGE_EMULATOR_HOST, which needs no credentials."""
    from datetime import timedelta

    from pyarrow.fs import GcsFileSystem

    limit = timedelta(seconds=_NETWORK_SECONDS)
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if not emulator:
        return GcsFileSystem(retry_time_limit=limit)
    scheme, separator, host = emulator.rstrip("/").rpartition("://")
    return GcsFileSystem(
        anonymous=True, scheme=scheme if separator else "http", endpoint_override=host, retry_time_limit=limit
    )
