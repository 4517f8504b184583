"""Standard streams whose errors do not stop a command: after a closed pipe, a full disk or a closed stream, output is dropped."""

import io
import os
import sys
from typing import Any, TextIO


class OptionalStream(io.TextIOBase):
    """A text stream that is dropped when it cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_lost = False

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        if not self._is_lost:
            try:
                self._stream.write(text)
            except (OSError, ValueError):
                self._lose()
        return len(text)

    def flush(self) -> None:
        """Flush what was written, or drop it."""
        if not self._is_lost:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._lose()

    def isatty(self) -> bool:
        """Return whether it is a terminal that can still be written."""
        return not self._is_lost and self._stream.isatty()

    def fileno(self) -> int:
        """Return its file descriptor."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of its text."""
        return self._stream.encoding

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the stream itself."""
        return getattr(self._stream, name)

    def _lose(self) -> None:
        """Drop this and all later output, and what is still in the stream's buffer when the interpreter flushes it at its end."""
        self._is_lost = True
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass


def prepare_streams(*, is_output_optional: bool) -> None:
    """Make the standard streams safe for a command.

    A closed one becomes the null device, so that no file that is opened later takes its number; characters that an encoding lacks are
    replaced. Standard error never ends a command.

    Args:
        is_output_optional: Whether the command does its work also if its standard output cannot be written.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(
                os.open(os.devnull, os.O_RDWR), True
            )  # it takes the lowest free number, which is this one
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = _usable(sys.stdout)
    sys.stderr = _optional(_usable(sys.stderr))
    if is_output_optional:
        sys.stdout = _optional(sys.stdout)


def _usable(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace" if stream is sys.stderr else "replace")
    return stream


def _optional(stream: TextIO) -> TextIO:
    return stream if isinstance(stream, OptionalStream) else OptionalStream(stream)  # type: ignore[return-value]
