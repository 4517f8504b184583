"""The tasks of a run: the function that does them, and what is right for each kind.

The function notes in a file, outside of the ledger, each time it begins and each time it is about to return.
"""

from taskfleet.tasks import Outcome

NOTES = "CHAOS_NOTES"

SOURCE = """
import os
import sys
import time

from taskfleet import Fail, Retry


def note(word, context, n):
    fd = os.open(os.environ["CHAOS_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{word} {context.task_id} {context.attempt} {n}\\n".encode())
    os.close(fd)


def run_task(n, kind, seconds, context):
    note("began", context, n)
    if seconds:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not (kind == "aware" and context.stopping):
            time.sleep(min(left, 0.02) if kind == "aware" else left)
    if kind == "raise" or (kind == "flaky" and context.attempt == 1):
        raise ValueError(f"task {n} raises")
    if kind == "fail":
        raise Fail(f"task {n} fails for good")
    if kind == "retry" or (kind == "again" and context.attempt < 3):
        raise Retry(f"task {n} asks for another try", delay_seconds=0.0 if n % 2 else None)
    if kind == "exit":
        os._exit(3)
    if kind == "leave":
        sys.exit(4)
    if kind == "print":
        print(f"task {n} prints")
        sys.stderr.write("and complains\\n")
    if kind == "child" and os.fork() == 0:
        if n % 2:
            os.setsid()
        time.sleep(60)
        os._exit(0)
    note("ended", context, n)
    return {"square": n * n, "pad": "x" * (200_000 if kind == "big" else n)}


def run_call(n, kind, seconds, context, one=None, all_of=(), good_of=()):
    # the same as a task of a graph, with the results of its parents
    result = run_task(n, kind, seconds, context)
    numbers = [[parent["n"] for parent in parents] for parents in ([one] if one else [], all_of, good_of)]
    return result | {"n": n, "parents": numbers}
"""

#: How long a task that runs too long would run.
TOO_LONG_SECONDS = 20.0

#: How an attempt at each kind ends if nothing disturbs it.
ENDS = {
    "quick": {Outcome.SUCCEEDED},
    "sleep": {Outcome.SUCCEEDED},
    "aware": {Outcome.SUCCEEDED},
    "print": {Outcome.SUCCEEDED},
    "child": {Outcome.SUCCEEDED},
    "big": {Outcome.SUCCEEDED},
    "raise": {Outcome.EXCEPTION},
    "flaky": {Outcome.EXCEPTION, Outcome.SUCCEEDED},
    "fail": {Outcome.EXCEPTION},
    "retry": {Outcome.RETRY},
    "again": {Outcome.RETRY, Outcome.SUCCEEDED},
    "exit": {Outcome.EXIT},
    "leave": {Outcome.EXIT},
    "slow": {Outcome.TIMEOUT},
}

EXIT_CODES = {"exit": 3, "leave": 4}


def right_end(kind, attempt):
    """Say how the attempt of that number ends if nothing disturbs it."""
    if kind == "flaky":
        return Outcome.EXCEPTION if attempt == 1 else Outcome.SUCCEEDED
    if kind == "again":
        return Outcome.RETRY if attempt < 3 else Outcome.SUCCEEDED
    (end,) = ENDS[kind]
    return end


def right_result(n, kind):
    """Give what a task returns."""
    return {"square": n * n, "pad": "x" * (200_000 if kind == "big" else n)}
