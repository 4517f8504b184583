"""The tasks that every side does: nothing, ten milliseconds of work, a result of a megabyte. Every side gets a copy or imports it."""

import os
import time

MEGABYTE = 1_000_000
WORK_SECONDS = 0.010

#: Where a process notes when it began its first task; unset where that would cost a process per task something.
_begun_file = os.environ.get("BENCH_BEGUN")


def noop(number):
    """Do nothing."""
    if _begun_file:
        note_begin()
    return number


def work(number):
    """Keep a processor busy for ten milliseconds of its time."""
    if _begun_file:
        note_begin()
    end = time.thread_time() + WORK_SECONDS
    while time.thread_time() < end:
        pass
    return number


def large(number):
    """Return a megabyte of text."""
    if _begun_file:
        note_begin()
    return f"{number:09d}" + "x" * (MEGABYTE - 9)


def note_begin():
    """Write down when this process began its first task."""
    global _begun_file
    with open(_begun_file, "a") as file:
        file.write(f"{time.time()!r}\n")
    _begun_file = None


KINDS = {"noop": noop, "work": work, "large": large}
