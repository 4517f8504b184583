"""Insertion: a feather table of two int64 columns, beside plain ``executemany`` with ``json.dumps``, huey and task-queue.

    uv run --group benchmarks python benchmarks/insert.py [--rows 1_000_000] [--rounds 3]
    uv run --group benchmarks python benchmarks/insert.py --rows 10_000_000 --rounds 1      the claim on memory

Ours is the whole command ``poe insert_tasks``, interpreter and imports included; beside it what it takes beyond inserting one row. Memory
is the peak of that process. The plain side reads the same table and writes the same columns, with ids that are numbered, not derived.
"""

import argparse
import json
import statistics

import measure
import ours
import sides

COLUMNS = ("num1", "num2")
TASK = "def run_task(num1, num2):\n    return num1 + num2\n"
ROWS_PER_SECOND = 300_000
PEAK_MB = 400
#: Peers are so much slower that fewer rows will do.
PEERS = {"huey_sqlite": 20_000, "huey_as_it_comes": 10_000, "task_queue": 10_000}

PLAIN = """\
import json, sqlite3, sys, time
import pyarrow as pa
start = time.perf_counter()
connection = sqlite3.connect("plain.db", isolation_level=None)
connection.execute("pragma journal_mode=wal")
connection.execute("pragma synchronous=normal")
connection.execute("create table task (seq integer primary key, id text not null, data text not null) strict")
connection.execute("create unique index task_by_id on task (id)")
connection.execute("begin")
n = 0
with pa.memory_map("tasks.feather") as file:
    reader = pa.ipc.open_file(file)
    for index in range(reader.num_record_batches):
        rows = reader.get_batch(index).to_pylist()
        connection.executemany(
            "insert into task (id, data) values (?, ?)",
            ((f"t{number:08d}", json.dumps(row)) for number, row in enumerate(rows, n)),
        )
        n += len(rows)
connection.execute("commit")
print(n / (time.perf_counter() - start))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = arguments.rows
    whole, beyond, peaks, plain, plain_peaks = [], [], [], [], []
    for _ in range(arguments.rounds):
        with measure.temporary_folder() as folder:
            one = ours.insert(ours.make_project(folder / "one", task=TASK, function="task:run_task"), 1, COLUMNS)
            project = ours.make_project(folder / "all", task=TASK, function="task:run_task")
            inserted = ours.insert(project, rows, COLUMNS)
            whole.append(rows / inserted.seconds)
            beyond.append(rows / (inserted.seconds - one.seconds))
            peaks.append(inserted.peak_rss_mib * measure.MIB / 1e6)
            ended = measure.run(measure.python(PLAIN), project)
            plain.append(float(ended.out))
            plain_peaks.append(ended.peak_rss_mib * measure.MIB / 1e6)
            size = ours.ledger_mib(project)
    claims = measure.Claims(f"Inserting {rows:,} rows of two int64 columns")
    claims.at_least("rows/s, the whole command", statistics.median(whole), ROWS_PER_SECOND, "rows/s")
    claims.add("rows/s beyond starting the command", measure.number(statistics.median(beyond)))
    claims.at_most("peak memory", max(peaks), PEAK_MB, "MB")
    claims.add("size of the ledger", f"{size / rows * measure.MIB:,.0f} bytes a task")
    claims.add(
        "plain executemany with json.dumps, imports not counted", f"{measure.number(statistics.median(plain))} rows/s"
    )
    claims.add("its peak memory (it takes record batches as they stand in the table)", f"{max(plain_peaks):,.0f} MB")
    for name, n in PEERS.items():
        side = sides.load(name)
        if reason := side.missing():
            claims.add(side.NAME, reason)
            continue
        out = measure.run(measure.python(measure.BENCHMARKS / "one.py", name, "noop", n), measure.BENCHMARKS).out
        rate = n / json.loads(out.splitlines()[-1])["insert_seconds"]
        ratio = measure.number(statistics.median(whole) / rate)
        claims.add(f"{side.NAME}, {n:,} rows", f"{measure.number(rate)} rows/s; ours {ratio} times that")
    claims.show()


if __name__ == "__main__":
    main()
