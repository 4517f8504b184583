"""Access to functions of Linux only; each user has a fallback."""

import sys
from typing import Any


def _load_libc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return libc


#: The C library, for functions that Python does not wrap; None on other systems.
LIBC = _load_libc()
#: Whether ``/proc`` describes processes.
HAS_PROC = sys.platform.startswith("linux")
