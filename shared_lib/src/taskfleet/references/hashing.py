"""The hash that names a file: the SHA-256 of the SHA-256 digests of its pieces, which several processors compute at the same time."""

import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

_PIECE_BYTES = 4 << 20
#: From this size on, bytes are hashed by threads.
_PARALLEL_BYTES = 1 << 20
_THREADS = 2


class ContentHash:
    """Hashes a content that comes in parts of any size; these do not matter for the result."""

    def __init__(self) -> None:
        self._pieces: list[Any] = []
        self.n_bytes = 0

    def update(self, data: Any, meanwhile: Callable[[memoryview], object] = lambda _: None) -> None:
        """Hash the next bytes.

        Args:
            data: Any object with the buffer protocol.
            meanwhile: Called with the bytes while threads hash them.
        """
        view = memoryview(data).cast("B")
        parts = list(self._parts(view))
        left = iter(parts)  # next() of it is atomic
        n_threads = min(_THREADS, len(parts)) if view.nbytes >= _PARALLEL_BYTES else 0
        threads = [threading.Thread(target=_hash, args=(left,)) for _ in range(n_threads)]
        for thread in threads:
            thread.start()
        try:
            meanwhile(view)
        finally:
            for thread in threads:
                thread.join()
        _hash(left)

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far: 64 hexadecimal digits."""
        return sha256(b"".join(piece.digest() for piece in self._pieces)).hexdigest()

    def _parts(self, view: memoryview) -> Iterator[tuple[Any, memoryview]]:
        """Yield the parts of bytes that belong to different pieces, each with the hash of its piece."""
        start = 0
        while start < view.nbytes:
            used = self.n_bytes % _PIECE_BYTES
            if not used:
                self._pieces.append(sha256())
            part = view[start : start + _PIECE_BYTES - used]
            yield self._pieces[-1], part
            start += part.nbytes
            self.n_bytes += part.nbytes


def _hash(parts: Iterator[tuple[Any, memoryview]]) -> None:
    for piece, part in parts:
        piece.update(part)
