"""What Linux alone offers; each user of it has a plain answer where it is missing."""

import sys
from typing import Any


def _load_libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return libc


#: The C library, for calls that Python does not know; None elsewhere.
LIBC = _load_libc()
#: Whether ``/proc`` tells about processes.
HAS_PROC = sys.platform.startswith("linux")
