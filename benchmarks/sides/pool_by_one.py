"""``multiprocessing.Pool(2).imap_unordered`` with chunks of one, which is its default; start method fork.

Measured: from the first call for a result to the last result in the caller's list. Not measured: starting the pool (both processes have
run something before). Nothing is kept: when the process dies, so does all it has done. There is nothing to insert.
"""

import multiprocessing
import time

import tasks

NAME = "Pool.imap_unordered, chunk 1"
KEEPS = "nothing"
DISTRIBUTION = None
SIZES = {"noop": 200_000, "work": 1000, "large": 600}
INSERTED = None


def missing():
    return None


def run(kind, n, folder, chunk=1):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(tasks.noop, range(100), 1)
        start = time.perf_counter()
        results = list(pool.imap_unordered(tasks.KINDS[kind], range(n), chunk))
        seconds = time.perf_counter() - start
    if len(results) != n:
        raise RuntimeError(f"{len(results)} of {n} results came back")
    return seconds
