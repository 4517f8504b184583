"""Concurrent requests in threads."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

_K = TypeVar("_K")
_T = TypeVar("_T")


def run_parallel(
    jobs: Mapping[_K, Callable[[], _T]], *, max_threads: int, stop: Callable[[], None] | None = None
) -> dict[_K, _T]:
    """Run functions in threads and return their results.

    Args:
        jobs: The functions, each with a key.
        max_threads: The maximum number of threads.
        stop: Called after the first failure; it asks the running functions to end early, and the others are not started. Without it, all
            functions run to the end.

    Raises:
        Exception: The exception of the first function that failed, in the order of ``jobs``; after all have ended.
    """
    with ThreadPoolExecutor(max(1, min(max_threads, len(jobs)))) as pool:
        futures = {key: pool.submit(job) for key, job in jobs.items()}
        if stop is not None:
            done, waiting = wait(futures.values(), return_when=FIRST_EXCEPTION)
            if waiting:
                stop()
                pool.shutdown(wait=True, cancel_futures=True)
                futures = {key: future for key, future in futures.items() if future in done}
    return {key: future.result() for key, future in futures.items()}
