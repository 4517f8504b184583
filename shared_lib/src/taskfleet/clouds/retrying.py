"""Trying again what a service did not answer, with growing pauses."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from taskfleet.errors import QueueUnreachableError

T = TypeVar("T")

SHORTEST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


class TransientError(Exception):
    """A call failed in a way that may be over in a moment; the text says what and what to do should it last."""


def retry_call(patience_seconds: float, action: Callable[[], T]) -> T:
    """Do something until it works.

    The pauses are drawn between half and the whole of what doubles from 0.1 s up to 5 s, so that those who were turned away together do not
    come back together.

    Raises:
        QueueUnreachableError: It has not worked within that time.
    """
    began_at = time.monotonic()
    pause = SHORTEST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except TransientError as error:
            left = began_at + patience_seconds - time.monotonic()
            if left <= 0:
                raise QueueUnreachableError(str(error)) from error
            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
