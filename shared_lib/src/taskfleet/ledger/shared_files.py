"""Detects network file systems, and file locks that do not work on them.

A write-ahead log needs memory that all its users share, so it cannot be used between hosts (https://sqlite.org/wal.html). There, the ledger
uses a rollback journal, which is slower and as safe if the file system's locks work.
"""

import os
import secrets
import signal
from pathlib import Path

from taskfleet.errors import LedgerError
from taskfleet.files import open_private

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: Types of file systems as in /proc/self/mounts; every ``fuse.`` type counts too.
NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "lustre",
        "gpfs",
        "beegfs",
        "ceph",
        "glusterfs",
        "9p",
        "afs",
        "orangefs",
        "panfs",
        "wekafs",
    }
)


def is_shared(folder: Path, mounts: str | None = None) -> bool:
    """Return whether a folder lies on a network file system.

    Args:
        folder: An existing folder.
        mounts: The text of /proc/self/mounts; None to read it. Where it does not exist, the result is False.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, type_name, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and folder.resolve().is_relative_to(point):
            best, kind = point, type_name
    return kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse.")


def check_locks(folder: Path) -> None:
    """Check that a lock of one process excludes another one. On Windows only ``Witness`` checks.

    Raises:
        LedgerError: It does not, or the file system has no locks.
    """
    if fcntl is None:
        return
    import tempfile  # slow to import, and not needed for most ledgers

    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".lock-test-") as probe:
            fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
            pid = _fork_undisturbed()
            if pid == 0:
                code = 1
                try:
                    fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    code = 0
                finally:
                    os._exit(code)
            kept_out = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    except OSError:
        kept_out = False
    if not kept_out:
        raise _no_locks(folder)


def _fork_undisturbed() -> int:
    """Fork with signals blocked, since a Ctrl-C in Python's fork handlers would be lost. The child keeps all signals blocked."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    pid = -1
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


class Witness:
    """A file beside the ledger in which each writer leaves a mark: the mark of another writer means that locks do not work.

    ``check_locks`` covers one host, this covers all hosts.
    """

    def __init__(self, ledger: Path) -> None:
        self.path = Path(f"{ledger}-writer")
        self._mark = b""

    def enter(self) -> None:
        """Write a mark; called with the write lock held.

        Raises:
            LedgerError: It cannot be written; the disk may be full.
        """
        self._mark = secrets.token_bytes(16)
        try:
            fd = open_private(self.path, os.O_WRONLY | os.O_CREAT)
            try:
                os.write(fd, self._mark)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._failure(error) from error

    def check(self) -> None:
        """Check that the mark is still there; called before the commit.

        Raises:
            LedgerError: Another process wrote meanwhile, or the file cannot be read.
        """
        try:
            mark = self.path.read_bytes()
        except OSError as error:
            raise self._failure(error) from error
        if mark != self._mark:
            raise _no_locks(self.path.parent)

    def _failure(self, error: OSError) -> LedgerError:
        return LedgerError(
            f"{self.path}, which protects a ledger on a shared file system, cannot be used: {error.strerror or error}. Free disk space, or "
            "check its permissions, and run the command again. Nothing was lost."
        )


def _no_locks(folder: Path) -> LedgerError:
    return LedgerError(
        f"File locks do not work in {folder}: two processes could write to the ledger at once and damage it. Stop all workers and mount "
        "the file system with locks (NFS: without 'nolock'), or choose another place for the ledger with LEDGER_PATH."
    )
