"""Files of tasks in OUTPUT_PATH, which is a folder or a bucket, under names that are safe whatever the ids of the tasks are."""

import os
import re
from pathlib import Path
from typing import Any

from taskfleet.errors import MissingPackageError
from taskfleet.files import write_atomically

#: What a name is made of; everything else is written as the hexadecimal digits of its bytes.
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
#: Names that Windows reserves, also with a suffix. https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
#: File systems allow 255 bytes; the rest is for suffixes and the names of drafts.
_LONGEST_NAME = 200
_SUFFIX = re.compile(r"(?:\.[A-Za-z0-9_-]+)*")
BUCKETS = ("s3", "gs")
"""The schemes of addresses of buckets."""


def output_name(task_id: str) -> str:
    """Return a file name for a task: its id, if that consists of lower case letters, digits, ``-``, ``_`` and ``.``.

    No two ids have the same name, also where upper and lower case are the same: ``M31`` becomes ``M31~1``, in which the digits say where
    the capitals are. Other characters become ``%`` and two digits for each byte, a name that Windows reserves begins so, and a very long
    id is cut and ends with a hash. So no name leads out of the folder.
    """
    name = _UNSAFE.sub(lambda found: _quoted(found[0]), task_id)
    if name.startswith(".") or _RESERVED.match(name):
        name = _quoted(name[0]) + name[1:]
    if name.endswith("."):
        name = name[:-1] + _quoted(".")
    capitals = sum(1 << place for place, character in enumerate(name) if character.isupper())
    name = f"{name}~{capitals:x}" if capitals else name or "%"
    if len(name) <= _LONGEST_NAME:
        return name
    from hashlib import blake2b  # slow to import, and hardly ever needed

    digest = blake2b(task_id.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{name[: _LONGEST_NAME - 40]}~~{digest}"


def local_file(output_path: str, name: str) -> Path:
    """Return the path of a file in a folder, which is made if it does not exist.

    Raises:
        ValueError: The output path is a bucket.
    """
    scheme, location = parse_location(output_path)
    if scheme in BUCKETS:
        raise ValueError(
            f"OUTPUT_PATH={output_path} is a bucket, which has no local files: use context.write_output, or write the file elsewhere "
            "and upload it"
        )
    folder = Path(location).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def write_output(output_path: str, name: str, content: str | bytes) -> str:
    """Write a file in a folder or bucket, completely or not at all; return its path or address.

    Raises:
        MissingPackageError: A bucket needs pyarrow, which is not installed.
        ValueError: The output path is neither a folder nor a bucket.
    """
    data = content.encode() if isinstance(content, str) else content
    scheme, location = parse_location(output_path)
    if scheme not in BUCKETS:
        path = local_file(output_path, name)
        write_atomically(path, data, is_private=False)
        return str(path)
    location = location.rstrip("/")
    with bucket_filesystem(scheme, location, output_path).open_output_stream(f"{location}/{name}") as stream:
        stream.write(data)
    return f"{scheme}://{location}/{name}"


def list_outputs(output_path: str | None, suffix: str = "") -> set[str]:
    """Return the names of the tasks, as ``output_name`` gives them, that have a file with a suffix in a folder or bucket.

    Args:
        output_path: OUTPUT_PATH; None for no output.
        suffix: The end of the files' names, such as ``.txt``.

    Raises:
        MissingPackageError: A bucket needs pyarrow, which is not installed.
        ValueError: The output path is neither a folder nor a bucket.
    """
    check_suffix(suffix)
    if not output_path:
        return set()
    scheme, location = parse_location(output_path)
    if scheme in BUCKETS:
        location = location.rstrip("/")
        filesystem = bucket_filesystem(scheme, location, output_path)
        from pyarrow.fs import FileSelector  # after the check that pyarrow is installed

        files = filesystem.get_file_info(FileSelector(location, allow_not_found=True))
        names = [one.base_name for one in files]
    else:
        folder = Path(location).expanduser()
        names = os.listdir(folder) if folder.is_dir() else []
    return {name.removesuffix(suffix) for name in names if name.endswith(suffix) and not name.startswith(".")}


def check_suffix(suffix: str) -> str:
    """Return a suffix if it is one.

    Raises:
        ValueError: It is not, for example because it leads into another folder.
    """
    if not _SUFFIX.fullmatch(suffix):
        raise ValueError(f"{suffix!r} is not a suffix of a file's name, such as '.txt' or '.fits.gz'")
    return suffix


def parse_location(address: str, setting: str = "OUTPUT_PATH") -> tuple[str, str]:
    """Return the scheme and the place of a folder or bucket; the scheme of a folder is empty.

    Args:
        address: A path, or an address with a scheme.
        setting: Where it comes from, for the message.

    Raises:
        ValueError: The scheme is not supported.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return "", address
    if scheme.lower() == "file":
        return "", rest.removeprefix("localhost")
    if scheme.lower() not in BUCKETS:
        raise ValueError(f"{setting}={address} is not supported: write a folder, s3://BUCKET/… or gs://BUCKET/…")
    return scheme.lower(), rest


def bucket_filesystem(scheme: str, location: str, address: str, setting: str = "OUTPUT_PATH") -> Any:
    """Return pyarrow's file system of a bucket.

    Args:
        scheme: One of BUCKETS.
        location: The bucket and a folder in it.
        address: The whole address, for the message.
        setting: Where it comes from, for the message.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    try:
        from taskfleet.tables.address import gs_filesystem, s3_filesystem

        return s3_filesystem(location) if scheme == "s3" else gs_filesystem()
    except ImportError as error:  # machines of a pool install only what the project's own dependencies need
        raise MissingPackageError(
            f"{setting}={address} needs the package pyarrow, which is not installed here. Add it to the project: uv add pyarrow",
            extra="",
        ) from error


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode(errors="surrogatepass"))
