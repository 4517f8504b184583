"""A store in a bucket, read and written with ``pyarrow.fs`` like the tables and outputs there."""

from contextlib import suppress
from typing import Any

from taskfleet.outputs import bucket_filesystem
from taskfleet.references.contents import Bytes, Content, StoredFile, file_name
from taskfleet.references.hashing import ContentHash

#: Writes of pyarrow to Google Cloud Storage copy what they are given.
_CHUNK_BYTES = 16 << 20


class Bucket:
    """The files of a store in a bucket; see ``store.Place``.

    Args:
        scheme: ``s3`` or ``gs``.
        location: The bucket and a folder in it.
        address: The address of the store, for messages.
        setting: Where the address comes from, for messages.
    """

    def __init__(self, scheme: str, location: str, address: str, setting: str) -> None:
        self._root = location.rstrip("/")
        self._files = bucket_filesystem(scheme, self._root, address, setting)

    def write(self, content: Content) -> StoredFile:
        """Hash a content, and write it if there is no file with this hash and size."""
        known = ContentHash()
        content.write(known.update)
        digest = known.hexdigest()
        name = file_name(digest, content.kind)
        path = f"{self._root}/{name}"
        if self._size(path) != known.n_bytes:
            self._upload(path, content, known.n_bytes)
        return StoredFile(name=name, n_bytes=known.n_bytes, sha256=digest)

    def read(self, name: str, n_bytes: int, kind: type[Bytes]) -> Bytes:
        """Return the first bytes of a file: at most one more than it should have."""
        with self._files.open_input_file(f"{self._root}/{name}") as file:
            size = min(file.size(), n_bytes + 1)
            if issubclass(kind, bytes):
                data: Any = file.read(size)
                return data  # type: ignore[no-any-return]
            data = bytearray(size)
            view = memoryview(data)
            n_read = 0
            while n_read < size and (more := file.readinto(view[n_read:])):
                n_read += more
            view.release()
            del data[n_read:]
            return data  # type: ignore[no-any-return]

    def path(self, name: str) -> None:
        """Return None: the files are not local."""

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        with suppress(FileNotFoundError):
            self._files.delete_file(f"{self._root}/{name}")

    def _size(self, path: str) -> int | None:
        """Return the size of a file; None if it does not exist, or if the credentials may not find out."""
        size: int | None = None
        with suppress(OSError):
            size = self._files.get_file_info(path).size
        return size

    def _upload(self, path: str, content: Content, n_bytes: int) -> None:
        """Write a file. The service shows it when the stream is closed, which also happens to one that was not finished."""
        stream = self._files.open_output_stream(path)

        def write(data: Any) -> None:
            view = memoryview(data).cast("B")
            for start in range(0, view.nbytes, _CHUNK_BYTES):
                stream.write(view[start : start + _CHUNK_BYTES])

        try:
            content.write(write)
        except BaseException:
            with suppress(OSError):
                stream.close()
            with suppress(OSError):
                if self._size(path) != n_bytes:
                    self.delete(path.removeprefix(f"{self._root}/"))
            raise
        stream.close()
