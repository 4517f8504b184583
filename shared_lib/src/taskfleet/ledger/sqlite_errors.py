"""Errors of SQLite as errors of the ledger, which name the file and the remedy."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskfleet.errors import LedgerError, UnusableLedgerError

#: What the module ``sqlite3`` raises; the second if the text of an error quotes a damaged file.
ERRORS = (sqlite3.Error, UnicodeDecodeError)


@contextmanager
def as_ledger_errors(path: Path) -> Iterator[None]:
    """Raise what SQLite raises as a ``LedgerError`` about a file."""
    try:
        yield
    except ERRORS as error:
        raise ledger_error(path, error) from error


def ledger_error(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> LedgerError:
    """Return an error of SQLite in words that name the file and the remedy."""
    text, kind = " ".join(str(error).split()), LedgerError
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_BUSY") or "locked" in text:
        advice = "another process has locked it for a minute; look for a stuck process that uses it"
    elif name.startswith("SQLITE_FULL"):
        advice = "the disk is full; free disk space and run the command again; nothing was lost"
    elif name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "malformed" in text:
        kind = UnusableLedgerError
        advice = (
            "the file is damaged or is not a ledger; keep a copy, and restore it from a backup or use another JOB_ID"
        )
    elif name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        advice = "it cannot be opened or written; check the permissions of the file and of its folder"
    elif name.startswith("SQLITE_IOERR"):
        advice = "the disk or the network file system failed; check it and run the command again"
    elif isinstance(error, UnicodeDecodeError) or text.startswith(("no such ", "Could not decode")):
        kind = UnusableLedgerError
        advice = "the file is damaged, or another program changed it; keep a copy, and restore it from a backup or use another JOB_ID"
    else:
        advice = "this error is unexpected"
    return kind(f"The ledger {path}: {text} ({name or 'no code'}): {advice}.")


def is_busy(error: LedgerError) -> bool:
    """Return whether another process holds a lock on the file."""
    return getattr(error.__cause__, "sqlite_errorname", "").startswith("SQLITE_BUSY")
