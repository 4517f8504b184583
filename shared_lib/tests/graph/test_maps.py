"""Maps: over sequences, tables and other maps, with arguments for all calls, empty ones, parts of them, and large ones."""

import os
import subprocess
import sys
import time

import pytest
from taskfleet.errors import UsageError
from taskfleet.ledger import calls, leasing
from taskfleet.processes.identity import hostname, identity


def test_maps_over_every_kind_of_sequence(project):
    project.run("""
import collections
import numpy as np, pandas as pd, pyarrow as pa

@app
def add(x, y=0): return x + y
Pair = collections.namedtuple("Pair", "x y")
table = pd.DataFrame({"x": [1, 2], "y": [10, 20]})

with flow():
    cases = [
        (add.map(range(3)), [0, 1, 2]),
        (add.map(x=[1, 2], y=[10, 20]), [11, 22]),
        (add.map([1, 2], y=5), [6, 7]),
        (add.map((1, 2), (3, 4)), [4, 6]),
        (add.map(["a", "b"], y="c"), ["ac", "bc"]),
        (add.map([[1], [2]], y=constant([3])), [[1, 3], [2, 3]]),
        (add.map(np.array([1.5, 2.5])), [1.5, 2.5]),
        (add.map(table), [11, 22]),
        (add.map(table["x"], y=table["y"]), [11, 22]),
        (add.map(pa.table({"x": [3], "y": [4]})), [7]),
        (add.map({3: "a", 4: "b"}.keys()), [3, 4]),
        (add.map(n * n for n in range(3)), [0, 1, 4]),
        (add.map([7, 7, 7]), [7, 7, 7]),
        (add.map([]), []),
    ]
for n, (futures, expected) in enumerate(cases):
    assert futures.result() == expected, (n, futures.result())
    assert len(futures) == len(expected) and [one.result() for one in futures] == expected
""")


def test_maps_of_maps(project):
    """Chains, slices in any order, maps over two maps, futures among plain values, and one future for all calls."""
    project.run("""
@app
def inc(x, by=1): return x + by
@app
def mul(x, y): return x * y
@app
def total(xs, more=()): return sum(xs) + sum(more)
@app
def none(): return 100

with flow():
    a = inc.map(range(20))
    b = inc.map(a)
    c = inc.map(x=b, by=none())
    both = mul.map(a, b)
    backwards = mul.map(a[::-1], b)
    few = inc.map(c[3:5])
    mixed = inc.map([a[0], 5, b[1], a[0]])
    shifted = mul.map(a[:-1], a[1:])
    alone = mul.map(a[:3], a[0])
    nested = total.map([a[:2], [b[0], 7], []], more=constant(a[:2]))
    empty = total(inc.map(inc.map([])))
    end = total(c, more=few)
    again = inc.map(a)
assert c.result() == [n + 102 for n in range(20)]
assert both.result() == [(n + 1) * (n + 2) for n in range(20)]
assert backwards.result() == [(20 - n) * (n + 2) for n in range(20)]
assert few.result() == [106, 107]
assert mixed.result() == [2, 6, 4, 2]
assert shifted.result() == [(n + 1) * (n + 2) for n in range(19)]
assert alone.result() == [1, 2, 3]
assert nested.result() == [6, 12, 3], nested.result()
assert empty.result() == 0
assert end.result() == sum(c.result()) + 213
assert again.seqs == b.seqs and again.ids() == b.ids()
""")


def test_a_map_waits_for_a_failed_one_of_all_its_calls(project):
    project.run("""
@app
def inc(x, by=0): return x + by
@app
def fail(): raise ValueError("no")
with flow():
    all_ = inc.map(range(30), by=fail())
    rest = inc.map(range(30))
assert sum(rest.result()) == 435
assert "ValueError" in str(all_[29].exception())
assert all_.counts() == {"failed": 30}, all_.counts()
""")


WRONG = """
@app
def add(x, y=0): return x + y
@app
def star(*args): return args
"""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("add.map([1, 2], y=[1, 2, 3])", "task:add.map needs sequences of the same length, but x has 2, y has 3"),
        ("add.map(1)", "task:add.map needs a sequence for at least one parameter"),
        ("add.map(constant([1]))", "task:add.map needs a sequence for at least one parameter"),
        ("add.map('text')", "task:add.map needs a sequence"),
        ("add.map(object() for _ in range(3))", "task:add: the argument x is"),
        ("star.map([1, 2], [3, 4])", "task:star.map cannot map over *args"),
    ],
)
def test_wrong_maps(project, call, message):
    with project.calls(WRONG) as (task, _), pytest.raises(UsageError) as raised:
        eval(call, vars(task))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("add.map(z=[1])", "task:add.map(x, y=0): missing a required argument: 'x'"),
        ("add.map([1], z=[2])", "unexpected keyword argument 'z'"),
        ("add.map()", "missing a required argument"),
        ("succeeded([1])", "succeeded() takes what map returned"),
    ],
)
def test_maps_with_wrong_parameters(project, call, message):
    with project.calls(WRONG) as (task, _), pytest.raises(TypeError) as raised:
        eval(call, vars(task))
    assert message in str(raised.value)


def test_a_map_with_known_calls_between_new_ones_adds_the_new_ones_without_gaps(project):
    with project.calls("@app\ndef inc(x): return x + 1\n") as (task, one):
        few = task.inc.map(range(10, 20))
        more = task.inc.map(range(30))
        over = task.inc.map(more)
        ids = more.ids()
        assert one.added == 60
        assert sorted(more.seqs) == list(range(1, 31))
        assert ids[10:20] == few.ids()
        assert over.seqs.tolist() == list(range(31, 61))
        assert task.inc.map(range(30)).ids() == ids == [future.id for future in more]
        assert more[::-1].ids() == ids[::-1]
        assert one.added == 60


LARGE = """
import resource, sys
from taskfleet.graph import app, flow
import task
add, total = app(task.add), app(task.total)
with flow("job") as one:
    first = add.map(range(int(sys.argv[1])))
    second = add.map(first)
    last = total(second)
assert one.added == 2 * int(sys.argv[1]) + 1, one.added
print(len(second), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_the_memory_of_a_large_map(project):
    """The driver's grows by far less than a Python object per task."""
    project.file("task.py", "def add(x): return x\ndef total(xs): return sum(xs)\n").file("flow.py", LARGE)
    peaks = []
    for n in (10, 200_000):
        said = subprocess.run(
            [sys.executable, "flow.py", str(n)],
            cwd=project.folder,
            env=project.environment(),
            check=True,
            capture_output=True,
        ).stdout.split()
        assert int(said[0]) == n
        peaks.append(int(said[1]))
        project.ledger_path.unlink()
    assert peaks[1] - peaks[0] < 120, peaks


@pytest.mark.parametrize("has_worker", [False, True])
def test_a_large_map_keeps_workers_waiting_for_small_transactions_only(project, monkeypatch, has_worker):
    flow_module, sizes = sys.modules["taskfleet.graph.flow"], []
    monkeypatch.setattr(flow_module, "MAP_STEP", 10)
    insert = calls.insert_batch
    monkeypatch.setattr(calls, "insert_batch", lambda *its: sizes.append(len(its[1].ids)) or insert(*its))
    with project.calls("@app\ndef f(x): return x\n") as (task, flow):
        if has_worker:
            alive = {"process": identity(), "pid": os.getpid(), "slots": 1, "lease_seconds": 60.0, "now": time.time()}
            leasing.register(flow.database, hostname=hostname(), **alive)
        task.f.map(range(35))
    assert sizes == ([10, 10, 10, 5] if has_worker else [30, 5])
