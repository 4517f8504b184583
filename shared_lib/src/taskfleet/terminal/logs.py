"""Where log records go: warnings to standard error, more with ``-v`` and ``-vv``, and everything to ``--log-file``."""

import logging
import os
import sys
from pathlib import Path

from taskfleet.errors import SettingsError
from taskfleet.files import make_private_folder, open_private
from taskfleet.redaction import redact
from taskfleet.text import harmless
from taskfleet.watch.bar import print_above

#: By how often ``-v`` was given.
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

_installed: list[logging.Handler] = []

_PLAIN = "%(levelname)s %(name)s: %(message)s"
_WITH_TIME = f"%(asctime)s  {_PLAIN}"
_IN_FILE = "%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"


class RedactingFormatter(logging.Formatter):
    """Replaces secrets in records, tracebacks included, and what a terminal would obey; only records begin at the margin."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; see ``logging.Formatter``."""
        return harmless(redact(super().format(record))).replace("\n", "\n    ")


class ConsoleHandler(logging.Handler):
    """Writes records to standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; see ``logging.Handler``."""
        try:
            print_above(self.format(record))
        except Exception:
            self.handleError(record)


def configure_logging(verbosity: int, log_file: Path | None) -> None:
    """Install the handlers of this process; what an earlier call installed is replaced.

    Args:
        verbosity: 0 for warnings, 1 for INFO, 2 and more for DEBUG.
        log_file: Receives all records, DEBUG included, with time and process id; it is appended to. None for no file.

    Raises:
        SettingsError: The file cannot be opened.
    """
    package = logging.getLogger("taskfleet")
    while _installed:
        handler = _installed.pop()
        package.removeHandler(handler)
        handler.close()
    console = ConsoleHandler(LEVELS[min(verbosity, len(LEVELS) - 1)])
    console.setFormatter(RedactingFormatter(_PLAIN if sys.stderr.isatty() else _WITH_TIME, "%H:%M:%S"))
    handlers: list[logging.Handler] = [console]
    if log_file is not None:
        try:
            make_private_folder(log_file.parent)
            os.close(open_private(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
            in_file = logging.FileHandler(log_file, encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--log-file {log_file} cannot be written: {error.strerror}.") from error
        in_file.setFormatter(RedactingFormatter(_IN_FILE))
        handlers.append(in_file)
    for handler in handlers:
        package.addHandler(handler)
        _installed.append(handler)
    package.setLevel(logging.DEBUG if log_file is not None else console.level)
    package.propagate = False
