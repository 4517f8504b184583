"""The store of large values: a folder or a bucket, in which a file's name is the hash of its content.

A file appears under its name once it is complete, and is never changed. It is not forced to the disk (``fsync``): after a power failure it
may be shorter than it was, which its reader finds out, and its task can run again.

The size of a file is verified whenever it is read. Its hash is verified whenever its bytes pass through this process: always, except for
arrays and tables in a local folder from MAP_BYTES on, which are mapped into memory, so that only the pages in use are read.
"""

import errno
import os
from pathlib import Path
from typing import Protocol

from taskfleet.errors import LostFileError, StoreError
from taskfleet.outputs import parse_location
from taskfleet.references.contents import Bytes, Content, StoredFile
from taskfleet.tables.values import one_line

MAP_BYTES = 1 << 20
"""The size from which on a file in a local folder is mapped into memory."""

SETTING = "RESULTS_PATH"


class Place(Protocol):
    """Where the files of a store are. Exceptions of the system are passed on."""

    def write(self, content: Content) -> StoredFile:
        """Write a content, completely or not at all; return its file. A file that exists already is kept."""

    def read(self, name: str, n_bytes: int, kind: type[Bytes]) -> Bytes:
        """Return the first bytes of a file: at most one more than it should have."""

    def path(self, name: str) -> Path | None:
        """Return the path of a file in a local folder; None if it is in a bucket."""

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""


class Store:
    """A folder or bucket for large values. It is created when the first file is written.

    Args:
        address: A folder, ``s3://BUCKET/…`` or ``gs://BUCKET/…``; empty if there is none, so that large values are errors.
        setting: Where the address comes from, for messages.

    Raises:
        ValueError: The address is neither a folder nor a bucket.
    """

    def __init__(self, address: str | os.PathLike[str], setting: str = SETTING) -> None:
        self.address = os.fspath(address)
        self._setting = setting
        self._scheme, self._location = parse_location(self.address, setting)
        self._folder = Path(self._location).expanduser().absolute()
        self._opened: Place | None = None

    def write(self, content: Content) -> StoredFile:
        """Write a content, completely or not at all; return its file, which is the same for the same content.

        Raises:
            StoreError: It cannot be written.
            MissingPackageError: A bucket needs pyarrow, which is not installed.
        """
        try:
            return self._place().write(content)
        except StoreError:
            raise
        except OSError as error:
            raise self._error("A large value cannot be written", error) from error

    def read(self, file: StoredFile, kind: type[Bytes]) -> Bytes:
        """Return the content of a file, with its size and its hash verified.

        Args:
            file: The file.
            kind: ``bytes`` or ``bytearray``.

        Raises:
            LostFileError: It is missing or damaged.
            StoreError: It cannot be read.
            MissingPackageError: A bucket needs pyarrow, which is not installed.
        """
        from taskfleet.references.hashing import ContentHash  # slow to import

        try:
            data = self._place().read(file.name, file.n_bytes, kind)
        except StoreError:
            raise
        except OSError as error:
            raise self._unreadable(file, error) from error
        self._check_size(file, len(data))
        known = ContentHash()
        known.update(data)
        if known.hexdigest() != file.sha256:
            raise self.lost(file, "has another content than when it was written")
        return data

    def mapped_path(self, file: StoredFile) -> Path | None:
        """Return the path of a file that is worth mapping into memory, with its size verified; otherwise None.

        Raises:
            LostFileError: It is missing or damaged.
            StoreError: It cannot be read.
        """
        if file.n_bytes < MAP_BYTES or self._scheme:
            return None
        path = self._place().path(file.name)
        try:
            if path is not None:
                self._check_size(file, path.stat().st_size)
        except StoreError:
            raise
        except OSError as error:
            raise self._unreadable(file, error) from error
        return path

    def delete(self, name: str) -> None:
        """Delete a file, if it exists.

        Raises:
            StoreError: It cannot be deleted.
            MissingPackageError: A bucket needs pyarrow, which is not installed.
        """
        try:
            self._place().delete(name)
        except StoreError:
            raise
        except OSError as error:
            raise self._error(f"{name} cannot be deleted", error) from error

    def lost(self, file: StoredFile, what: str) -> LostFileError:
        """Return the error for a file that is missing or damaged."""
        return LostFileError(
            f"The file {file.name} in {self.address}, which is the result of a task, {what}. Run that task again"
        )

    def _check_size(self, file: StoredFile, n_bytes: int) -> None:
        if n_bytes == file.n_bytes:
            return
        has = f"more than {file.n_bytes:,}" if n_bytes > file.n_bytes else f"{n_bytes:,} of {file.n_bytes:,}"
        raise self.lost(file, f"has {has} bytes")

    def _unreadable(self, file: StoredFile, error: OSError) -> StoreError:
        if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
            if self._scheme or self._folder.is_dir():
                return self.lost(file, "does not exist")
            return LostFileError(
                f"The folder {self.address} does not exist on this machine, so the file {file.name} of a task is not there. If another "
                f"machine wrote it, set {self._setting} to a bucket (s3://…, gs://…) or to a folder that all machines share; otherwise "
                "run that task again"
            )
        return self._error(f"{file.name} cannot be read", error)

    def _error(self, what: str, error: OSError) -> StoreError:
        where = f"in {self._setting}={self.address}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = f"{what} {where}: no space is left. Delete files there, or choose another place"
        elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
            text = f"{what} {where}: {os.strerror(error.errno or errno.EACCES)}. Change the permissions, or choose another place"
        elif self._scheme:
            reason = one_line(error, 300) or type(error).__name__
            text = f"{what} {where}: {reason}. Check the address, the network, your credentials and the region"
        else:
            reason = error.strerror or one_line(error, 300) or type(error).__name__
            text = f"{what} {where}: {reason}. Check the folder"
        return StoreError(text, code=error.errno)

    def _place(self) -> Place:
        if self._opened is None:
            if not self.address:
                raise StoreError(
                    f"A value of a task is too large for a message, and there is no place for its file. Set {self._setting} to a bucket "
                    "(s3://…, gs://…), or to a folder that the workers and this machine share"
                )
            if self._scheme:
                from taskfleet.references.bucket import Bucket

                self._opened = Bucket(self._scheme, self._location, self.address, self._setting)
            else:
                from taskfleet.references.folder import Folder

                self._opened = Folder(self._folder)
        return self._opened
