"""Retries of calls that a service did not answer, with exponential backoff."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from taskfleet.errors import UnreachableError

logger = logging.getLogger(__name__)

T = TypeVar("T")

SHORTEST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


def retry_call(patience_seconds: float, action: Callable[[], T]) -> T:
    """Call a function until it succeeds or the time is over.

    The backoff doubles from 0.1 s to 5 s, with jitter between half of it and all of it, so that clients do not retry in step.

    Args:
        patience_seconds: The time after which the last error is raised.
        action: The call. Only UnreachableError leads to another one.

    Raises:
        UnreachableError: The last error.
    """
    began_at = time.monotonic()
    pause = SHORTEST_PAUSE_SECONDS
    while True:
        try:
            return action()
        except UnreachableError as error:
            left = began_at + patience_seconds - time.monotonic()
            if left <= 0:
                raise
            seconds = min(left, pause * random.uniform(0.5, 1.0))
            logger.info("retry in %.1f s: %s", seconds, error)
            time.sleep(seconds)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
