"""Single insertions: how many a second, by how many go into one call, and what a lease costs among 100,000 of them.

    uv run --group benchmarks python benchmarks/singly.py [--tasks 100_000] [--rounds 5]

The functions of the library are called in this process, on a ledger in a temporary folder. Each call syncs the disk once, so the first
figures are the disk's; how long a sync takes stands beside them. Leases of ten tasks, each with the finishing of the ten, take turns in
three ledgers: a table of so many rows, so many tasks that were inserted singly, and the same of which all but the last were run.
"""

import argparse
import itertools
import os
import statistics
import time

import measure
from taskfleet.ledger import insertion, leasing
from taskfleet.ledger.database import create
from taskfleet.ledger.small_insertion import insert_few
from taskfleet.tasks import Finished, Outcome, RetryPolicy

PER_CALL = {1: 300, 10: 3000, 100: 20_000, 10_000: 100_000}
LEASE = 10
LEASES_A_ROUND = 50
#: A lease among single insertions may cost this much more than one of a table's tasks, whose states have still to be written.
RATIO = 1.2
POLICY = RetryPolicy(retries={})


def new_ledger(folder, name):
    return create(folder / f"{name}.db", job_id="job", project=folder, now=0.0)


def texts(numbers):
    return [f"t{n}" for n in numbers], [f'{{"number": {n}}}' for n in numbers]


def insert_singly(database, tasks, per_call):
    """Give the seconds it takes."""
    batches = [texts(range(first, min(first + per_call, tasks))) for first in range(0, tasks, per_call)]
    began = time.perf_counter()
    for ids, data in batches:
        insert_few(database, ids, data)
    return time.perf_counter() - began


def sync_seconds(folder):
    """Give the median time of a sync of 4 KiB."""
    seconds = []
    with (folder / "synced").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def insert_table(database, tasks):
    under_way = insertion.begin(database, source="benchmark")
    for first in range(0, tasks, 50_000):
        under_way.add(*texts(range(first, min(first + 50_000, tasks))), ids_are_derived=False, now=0.0)
    under_way.accept(0.0)


def register(database):
    return leasing.register(database, hostname="h", process="p", pid=1, slots=1, lease_seconds=1e9, now=0.0)


def run(database, worker_id, most):
    """Lease tasks and finish them; give the seconds of the lease."""
    began = time.perf_counter()
    leases = leasing.lease(database, worker_id, most, skip=0, lease_seconds=1e9, now=0.0)
    seconds = time.perf_counter() - began
    assert len(leases) == most
    done = [
        Finished(seq=one.seq, attempt=one.attempt, outcome=Outcome.SUCCEEDED, started_at=0.0, elapsed_seconds=1.0)
        for one in leases
    ]
    leasing.finish(database, worker_id, done, policy=POLICY, now=0.0)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    claims = measure.Claims(f"Single insertions, and leases among {arguments.tasks:,} of them")
    with measure.temporary_folder() as folder:
        claims.add("a sync of the disk", f"{1e3 * sync_seconds(folder):.2g} ms")
        for per_call, tasks in PER_CALL.items():
            database = new_ledger(folder, f"by{per_call}")
            seconds = insert_singly(database, tasks, per_call)
            database.close()
            claims.add(
                f"{per_call:,} a call, {tasks:,} tasks",
                f"{measure.number(tasks / seconds)} tasks/s, {1e3 * seconds * per_call / tasks:.2g} ms a call",
            )
        ledgers = {name: new_ledger(folder, name) for name in ("table", "single", "run")}
        insert_table(ledgers["table"], arguments.tasks)
        workers = {}
        for name, database in ledgers.items():
            if name != "table":
                insert_singly(database, arguments.tasks, 10_000)
            workers[name] = register(database)
        left = LEASE * LEASES_A_ROUND * arguments.rounds
        for _ in range((arguments.tasks - left) // 1000):
            run(ledgers["run"], workers["run"], 1000)
        seconds = {name: [] for name in ledgers}
        for _, _ in itertools.product(range(arguments.rounds), range(LEASES_A_ROUND)):
            for name, database in ledgers.items():
                seconds[name].append(run(database, workers[name], LEASE))
        for database in ledgers.values():
            database.close()
    micros = {name: 1e6 * statistics.median(each) for name, each in seconds.items()}
    claims.add(f"a lease of {LEASE} tasks of a table", f"{micros['table']:.0f} µs")
    for name, what in (("single", "none of which was run"), ("run", "nearly all of which were run")):
        claims.add(f"a lease of {LEASE} single tasks, {what}", f"{micros[name]:.0f} µs")
        claims.at_most("beside that of a table's", micros[name] / micros["table"], RATIO, "times")
    claims.show()


if __name__ == "__main__":
    main()
