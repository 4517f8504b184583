"""Log records as desipipe writes them."""

import logging
import sys
import time
from typing import TextIO

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FORMAT = "[%(seconds)09.2f]  %(asctime)s  %(name)-25s %(levelname)-8s %(message)s"


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__(_FORMAT, "%m-%d %H:%M")
        self._began_at = time.monotonic()

    def format(self, record: logging.LogRecord) -> str:
        record.seconds = time.monotonic() - self._began_at
        return super().format(record)


def setup_logging(
    level: int | str = logging.INFO, stream: TextIO | None = None, filename: str | None = None, filemode: str = "w"
) -> None:
    """Write log records with the time since this call.

    Args:
        level: The lowest level, as a number or by name: debug, info, warning, error.
        stream: Where to; standard output if None.
        filename: A file instead.
        filemode: How to open it.
    """
    if isinstance(level, str):
        level = _LEVELS[level.lower()]
    handler = (
        logging.StreamHandler(sys.stdout if stream is None else stream)
        if filename is None
        else logging.FileHandler(filename, filemode, encoding="utf-8")
    )
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
