"""A store in a folder."""

import os
from contextlib import suppress
from pathlib import Path

from taskfleet.files import make_private_folder, open_private
from taskfleet.references.contents import Bytes, Content, StoredFile, file_name
from taskfleet.references.hashing import ContentHash

_CHUNK_BYTES = 8 << 20


class Folder:
    """The files of a store in a folder; see ``store.Place``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, content: Content) -> StoredFile:
        """Write a content under a temporary name, and rename it once its hash is known."""
        make_private_folder(self._root)
        draft = self._root / f".draft-{os.urandom(8).hex()}"
        try:
            known = ContentHash()
            with open(draft, "xb", opener=open_private) as file:
                content.write(lambda data: known.update(data, file.write))
            digest = known.hexdigest()
            name = file_name(digest, content.kind)
            path = self._root / name
            make_private_folder(path.parent)
            if not _has_content(path, known.n_bytes, digest):
                draft.replace(path)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        return StoredFile(name=name, n_bytes=known.n_bytes, sha256=digest)

    def read(self, name: str, n_bytes: int, kind: type[Bytes]) -> Bytes:
        """Return the first bytes of a file: at most one more than it should have."""
        with open(self._root / name, "rb") as file:
            size = min(os.fstat(file.fileno()).st_size, n_bytes + 1)
            if issubclass(kind, bytes):
                return file.read(size)
            data = bytearray(size)
            del data[file.readinto(data) :]
            return data

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return self._root / name

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        (self._root / name).unlink(missing_ok=True)


def _has_content(path: Path, n_bytes: int, digest: str) -> bool:
    """Return whether a file exists and is not damaged. A file that is in use elsewhere is only replaced if it is."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != n_bytes:
                return False
            known = ContentHash()
            while chunk := file.read(_CHUNK_BYTES):
                known.update(chunk)
            return known.hexdigest() == digest
    except OSError:
        return False
