"""A wall clock that jumps: ``time.time`` plus an offset that stands in a file.

``time.time`` is the one place where the engine reads the wall clock, so replacing it before the engine is imported moves all of the
engine's clocks, and neither the monotonic clock nor sleeping. (libfaketime was tried first: release 0.9.10 makes ``time.sleep`` of
Python 3.11 fail with EINVAL, and a process killed with -9 leaves files in /dev/shm that break a later one of the same id.)

This file is also put on the path of new interpreters as ``sitecustomize``, so it may import little.
"""

import mmap
import os
import struct
import time

VARIABLE = "CHAOS_CLOCK"
_OFFSET = struct.Struct("<d")
_true_time = time.time
_memory = None


def _time():
    return _true_time() if _memory is None else _true_time() + _OFFSET.unpack_from(_memory)[0]


def install():
    """Let ``time.time`` be the clock that jumps; called before anything of the engine is imported."""
    time.time = _time


def follow(path):
    """Go by the offset in a file from now on."""
    global _memory
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, _OFFSET.size)
    _memory = mmap.mmap(fd, _OFFSET.size)
    os.close(fd)


def jump_to(offset_seconds):
    """Show all that follow the same file a time that is off by so much."""
    _OFFSET.pack_into(_memory, 0, offset_seconds)


if __name__ == "sitecustomize" and os.environ.get(VARIABLE):
    install()
    follow(os.environ[VARIABLE])
