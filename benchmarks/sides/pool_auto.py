"""``multiprocessing.Pool(2).imap_unordered`` with the chunks that ``Pool.map`` would choose: a quarter of the tasks per process at a time.

Measured as in ``pool_by_one``. A result comes back with its chunk, and what a chunk did is lost with one exception.
"""

from sides import pool_by_one

NAME = "Pool.imap_unordered, chunk auto"
KEEPS = "nothing"
DISTRIBUTION = None
SIZES = {"noop": 3_000_000, "work": 1000, "large": 600}
INSERTED = None


def missing():
    return None


def run(kind, n, folder):
    return pool_by_one.run(kind, n, folder, chunk=-(-n // 8))
