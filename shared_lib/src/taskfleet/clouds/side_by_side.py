"""Doing several things that wait for a service, each in a thread."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

_K = TypeVar("_K")
_T = TypeVar("_T")


def side_by_side(
    jobs: Mapping[_K, Callable[[], _T]], *, most: int, stop: Callable[[], None] | None = None
) -> dict[_K, _T]:
    """Do all jobs, some at a time, and return what each gave.

    Args:
        jobs: By a name for each.
        most: How many run at a time.
        stop: Called when one has failed; those that run are told so to end early, those that wait are not begun. Without it every job is
            done, whatever becomes of the others.

    Raises:
        Exception: The first in the order of the jobs of those that failed, when all have ended.
    """
    with ThreadPoolExecutor(max(1, min(most, len(jobs)))) as pool:
        futures = {key: pool.submit(job) for key, job in jobs.items()}
        if stop is not None:
            done, waiting = wait(futures.values(), return_when=FIRST_EXCEPTION)
            if waiting:
                stop()
                pool.shutdown(wait=True, cancel_futures=True)
                futures = {key: future for key, future in futures.items() if future in done}
    return {key: future.result() for key, future in futures.items()}
