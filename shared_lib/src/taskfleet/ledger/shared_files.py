"""Detects network file systems, and file locks that do not work on them.

A write-ahead log needs memory that all its users share, so it cannot be used between hosts (https://sqlite.org/wal.html). There, the ledger
uses a rollback journal, which is slower and as safe if the file system's locks work.
"""

import os
import secrets
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from taskfleet.errors import LedgerError, UnusableLedgerError
from taskfleet.files import open_private
from taskfleet.invocation import poe
from taskfleet.processes.identity import host

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
    """Check that a lock of one process excludes another one of this host. On Windows only ``Witness`` checks.

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

    ``check_locks`` covers one host and ``LockProbe`` those that work at the same time, before any damage; this covers everything else.
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


class LockProbe:
    """Checks that locks exclude other hosts, before a worker leases tasks.

    All who use a shared ledger for long, workers and controllers, compete for the lock of a file beside it. Its holder leaves marks in a
    second file, again and again. Who gets the lock and sees that a process of another host goes on leaving marks has proven that both
    hold it. A holder that was killed leaves no more marks; its successor waits once, until the next mark is overdue.
    """

    #: How much later than expected a mark may become visible on another host.
    DELAY_SECONDS = 5.0
    _MARK_BYTES = 256
    _held: ClassVar[set[tuple[int, Path]]] = set()
    """The locks of each process, which loses one when it closes any file descriptor of the file."""

    def __init__(self, ledger: Path) -> None:
        self._lock = Path(f"{ledger}-lock").resolve()
        self._mark = Path(f"{ledger}-holder")
        self._fd: int | None = None
        self._seen = ""
        """The mark of this process, or that of the former holder."""

    def begin(self, every_seconds: float) -> None:
        """Compete for the lock; returns at once unless the last holder was on another host.

        Args:
            every_seconds: How often ``repeat`` will be called.

        Raises:
            LedgerError: Locks do not exclude processes of another host, or the files cannot be used.
        """
        if not self._acquire():
            return
        _, _, seconds = self._seen.partition(" every ")
        with suppress(ValueError):
            until = time.monotonic() + (float(seconds) + self.DELAY_SECONDS if seconds else 0.0)
            while not self._is_own(self._seen) and time.monotonic() < until:
                time.sleep(0.2)
                self._check()
        self._leave(every_seconds)

    def repeat(self, every_seconds: float) -> None:
        """Check the lock and leave a mark, or compete for it if another process had it; call it all the time after ``begin``.

        Raises:
            LedgerError: See ``begin``.
        """
        if self._fd is not None:
            self._check()
            self._leave(every_seconds)
        else:
            self._acquire()  # the next call sees whether the former holder still leaves marks

    def close(self) -> None:
        """Release the lock, and remove the mark, so that no successor waits for another one."""
        if self._fd is not None:
            with suppress(OSError, LedgerError):
                if self._read() == self._seen and self._is_own(self._seen):
                    self._write("")
            self._held.discard((os.getpid(), self._lock))
            os.close(self._fd)
            self._fd = None

    def _acquire(self) -> bool:
        """Return whether this process has the lock."""
        key = os.getpid(), self._lock
        if fcntl is None or key in self._held:
            return False
        try:
            fd = open_private(self._lock, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                os.close(fd)
                return False
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise LedgerError(
                f"{self._lock}, which protects a ledger on a shared file system, cannot be locked: {error.strerror or error}. Check the "
                f"permissions and mount options of the file system, or use a database instead: {poe('start_queue')}"
            ) from error
        self._fd = fd
        self._held.add(key)
        self._seen = self._read()
        return True

    def _check(self) -> None:
        """Raise an error if a process of another host has left a mark since, which it does only with the lock."""
        found = self._read()
        if found != self._seen and found and not self._is_own(found):
            other = found.partition("/")[0]
            raise UnusableLedgerError(
                f"The file system of {self._mark.parent} does not keep locks between hosts: this host and {other} have locked the same "
                "file, so they could write to the ledger at once and damage it. Stop all workers on one of them. Then mount the file "
                "system with locks (NFS: version 4, without 'nolock' and 'local_lock'; Lustre: with 'flock'), or keep the queue in a "
                f"database: {poe('start_queue')}"
            )

    def _leave(self, every_seconds: float) -> None:
        self._seen = f"{host()} {secrets.token_hex(8)} every {every_seconds:g}"
        self._write(self._seen)

    def _is_own(self, mark: str) -> bool:
        return not mark or mark.partition(" ")[0] == host()

    def _read(self) -> str:
        try:
            return self._mark.read_bytes().decode(errors="replace").strip()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self._failure(error) from error

    def _write(self, mark: str) -> None:
        """Overwrite the mark in place: hosts see a file that is replaced much later."""
        try:
            fd = open_private(self._mark, os.O_WRONLY | os.O_CREAT)
            try:
                os.write(fd, mark.encode().ljust(self._MARK_BYTES))
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> LedgerError:
        return LedgerError(f"{self._mark}, which protects a ledger on a shared file system, cannot be used: {error}.")


def _no_locks(folder: Path) -> LedgerError:
    return LedgerError(
        f"File locks do not work in {folder}: two processes could write to the ledger at once and damage it. Stop all workers and mount "
        "the file system with locks (NFS: without 'nolock'), or choose another place for the ledger with LEDGER_PATH."
    )
