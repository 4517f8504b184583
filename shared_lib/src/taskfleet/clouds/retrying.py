"""Trying again what a service did not answer, with growing pauses."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from taskfleet.errors import UnreachableError

T = TypeVar("T")

SHORTEST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


def retry_call(patience_seconds: float, action: Callable[[], T]) -> T:
    """Do something until it works.

    The pauses are drawn between half and the whole of what doubles from 0.1 s up to 5 s, so that those who were turned away together do not
    come back together.

    Raises:
        UnreachableError: What the last try was met with, if it has not worked within that time.
    """
    began_at = time.monotonic()
    pause = SHORTEST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except UnreachableError:
            left = began_at + patience_seconds - time.monotonic()
            if left <= 0:
                raise
            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
