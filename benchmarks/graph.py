"""Graphs: inserting calls, releasing tasks, whole graphs of tasks that do nothing; and the same whole graphs by Parsl and Dask.

    uv run --group benchmarks python benchmarks/graph.py
    uv run --group benchmarks python benchmarks/graph.py --scale 0.01
    uv run --group benchmarks python benchmarks/graph.py --only calls chain dask

Every row is a process of its own in a temporary folder; the rows take turns in rounds. Shown is the median of the rounds. Two workers each.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import graph_rows
import measure

#: By row: the number of tasks or calls, and how the figures are called: (name, target, whether it is a lower limit, unit).
ROWS = {
    "calls": (200_000, [("single calls with one edge, inserted", 50_000, True, "calls/s")]),
    "three": (
        100_000,
        [
            ("calls with three edges, inserted", 25_000, True, "calls/s"),
            ("edges of these", 75_000, True, "edges/s"),
            ("an edge on disk", 20, False, "bytes"),
        ],
    ),
    "maps": (
        1_000_000,
        [
            ("mapped, mapped again and reduced, inserted", 10, False, "s"),
            ("the same, processor time", 10, False, "s"),
            ("peak memory of the driver", 150, False, "MiB"),
            ("the same script again, nothing new", 15, False, "s"),
            ("status of this job", 100, False, "ms"),
            ("explain of the reduce", 100, False, "ms"),
        ],
    ),
    "map_bytes": (100_000, [("an edge of these on disk", 20, False, "bytes")]),
    "release": (
        100_000,
        [
            ("released by finishing as many others, three parents each", 100_000, True, "tasks per second of CPU"),
            ("edges of these", 300_000, True, "edges per second of CPU"),
            ("released by others and finished themselves", 0, None, "tasks per second of CPU"),
            ("tasks without children finished, in the same job", 0, None, "tasks per second of CPU"),
        ],
    ),
    "failure": (
        1_000_000,
        [
            ("one failure with so many descendants", 10, False, "s"),
            ("the same, processor time", 10, False, "s"),
            ("the longest transaction", 100, False, "ms"),
            ("the longest one by processor time", 100, False, "ms"),
            ("another worker renews its lease meanwhile, median", 0, None, "ms"),
            ("the longest time for that", 0, None, "ms"),
        ],
    ),
    "kept": (100_000, [("two layers, one edge each, processes kept", 20_000, True, "tasks/s")]),
    "fresh": (
        5_000,
        [
            ("two layers, one edge each, a process per task", 1_200, True, "tasks/s"),
            ("as many tasks of a table, a process per task", 0, None, "tasks/s"),
        ],
    ),
    "chain": (1_000, [("a chain of 1,000 tasks", 5, False, "s")]),
    "chain_sqs": (200, [("from task to task of a chain over SQS, no monitor", 50, False, "ms")]),
    "chain_postgresql": (200, [("the same over PostgreSQL", 50, False, "ms")]),
    "large": (
        100,
        [
            ("100 MB of array from task to task, with the start of the worker's processes", 0, None, "s"),
            ("of that in the ledger", 1000, False, "bytes"),
            ("written and read by the store, in times of np.save and np.load", 1.2, False, ""),
            ("np.save and np.load", 0, None, "ms"),
            ("their processor time", 0, None, "ms"),
            ("the store", 0, None, "ms"),
            ("its processor time", 0, None, "ms"),
            ("of that, SHA-256 of 100 MB", 0, None, "ms"),
        ],
    ),
    "parsl": (10_000, [("Parsl, two layers, one edge each, 2 threads", 0, None, "tasks/s")]),
    "parsl_htex": (4_000, [("Parsl, the same, HighThroughputExecutor", 0, None, "tasks/s")]),
    "dask": (10_000, [("Dask, the same, 2 processes", 0, None, "tasks/s")]),
    "dask_delayed": (10_000, [("Dask delayed, the same, 2 threads", 0, None, "tasks/s")]),
}


def main():
    if sys.argv[1:2] == ["--row"]:
        name, n, folder = sys.argv[2:]
        print(json.dumps(getattr(graph_rows, name)(int(n), Path(folder))))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiply the number of tasks by this factor; the targets hold for 1"
    )
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    figures = {name: [] for name in arguments.only}
    for number in range(arguments.rounds):
        for name in arguments.only:
            n = max(int(ROWS[name][0] * arguments.scale), 100)
            with measure.temporary_folder() as folder:
                command = measure.python(measure.BENCHMARKS / "graph.py", "--row", name, n, folder)
                try:
                    ended = measure.run(command, measure.BENCHMARKS)
                except RuntimeError as error:
                    measure.say(f"{name}: {error}")
                    continue
            figures[name].append(json.loads(ended.out.splitlines()[-1]))
            measure.say(f"round {number + 1} {name} of {n:,}: {figures[name][-1]}")
    claims = measure.Claims(f"Graphs ({arguments.rounds} rounds, load {os.getloadavg()[0]:.1f})")
    for name in arguments.only:
        for values, (what, target, is_lower_limit, unit) in zip(
            zip(*figures[name], strict=True), ROWS[name][1], strict=False
        ):
            value = statistics.median(values)
            if is_lower_limit is None:
                claims.add(what, f"{measure.number(value)} {unit}")
            elif is_lower_limit:
                claims.at_least(what, value, target, unit)
            else:
                claims.at_most(what, value, target, unit)
    claims.show()
    print(measure.machine("parsl", "distributed"))


if __name__ == "__main__":
    main()
