"""Values as arguments and results, and futures in every place of the arguments, in scripts that check them as a user would."""

import re

import pytest
from taskfleet.errors import UsageError

from shared_lib.tests.graph.conftest import HEAD


def test_values_come_back_as_they_were(project):
    project.run("""
import dataclasses, datetime, math, pathlib
import numpy as np

@dataclasses.dataclass
class Star:
    name: str
    flux: float

@app
def same(value): return value

values = [
    None, True, 2**70, 1.5, "ü\\n", [1, [2]], (1, (2, 3)), {1: "a", "b": {2}}, {"$task": "x"}, {"$results": "m"}, b"\\0\\xff",
    float("inf"), datetime.date(2026, 1, 2), pathlib.Path("a/b"), Star("m31", 2.5), '{"$task":"same-00000000000000000000"}',
]
with flow():
    futures = [same(value) for value in values]
    nan = same(float("nan"))
    array = same(np.arange(12.0).reshape(3, 4))
    twice = same(array)
for value, future in zip(values, futures):
    assert future.result() == value and type(future.result()) is type(value), (value, future.result())
assert math.isnan(nan.result())
assert (twice.result() == np.arange(12.0).reshape(3, 4)).all() and twice.result().dtype == float
""")


def test_a_large_array_passes_between_two_tasks_as_a_file(project):
    """Of 100 MB, a kilobyte at most is in the ledger."""
    project.run("""
import numpy as np

@app
def make(n): return np.ones(n)
@app
def total(array): return float(array.sum())

with flow():
    array = make(13_000_000)
    assert total(array).result() == 13_000_000
    assert array.result().nbytes == 104_000_000
""")
    assert project.ask(lambda database: database.value("SELECT max(length(result)) FROM attempt")) < 1000
    assert sum(path.stat().st_size for path in project.ledger_path.parent.glob("*.db*")) < 1_000_000


def command_in(text):
    """The words behind ``poe`` of the command in a text."""
    [line] = [line for line in text.splitlines() if "poe retry" in line]
    return line.partition("poe ")[2].removesuffix(".").split()


def test_the_error_for_a_lost_result_names_its_task_and_a_command_that_mends_it(project):
    """For the script that asks for the result, for a task that needs it, and in ``poe explain``."""
    text = """
import numpy as np, sys
@app
def make(n): return np.ones(n)
@app
def total(array): return float(array.sum())

with flow():
    array = make(100_000)
    if "total" in sys.argv:
        array = total(array)
print(float(np.sum(array.result())))
"""
    project.settings(JOB_ID="another", RETRIES_ON_EXCEPTION=0).run(text)
    [file] = project.folder.glob("jobs/*.results/*/*.npy")
    file.unlink()
    said = project.run(text, code=1)
    [make] = project.ask(lambda database: [one for (one,) in database.rows("SELECT id FROM task")])
    assert "does not exist" in said
    assert f"The file is the result of {make}" in said
    assert command_in(said) == ["retry", "--job-id", "job", "--with-descendants", make]
    failed = project.start(command=("flow.py", "total")).wait(1).text
    total = re.search(r"(total-\w+) did not succeed: taskfleet.errors.LostFileError", failed)[1]
    assert command_in(failed) == ["retry", "--job-id", "job", "--with-descendants", make, total]
    explained = project.start("explain", "--job-id", "job", total, command=("-m", "taskfleet")).wait().text
    assert command_in(explained) == ["retry", "--job-id", "job", "--with-descendants", make, total]
    project.start(*command_in(failed), command=("-m", "taskfleet")).wait()
    assert project.counts() == {"pending": 1, "waiting": 1}
    assert "100000.0" in project.start(command=("flow.py", "total")).wait().text
    assert file.exists()


def test_the_error_for_a_lost_argument_says_to_run_the_script_again(project):
    project.settings(RETRIES_ON_EXCEPTION=0)
    text = """
import glob, os, sys
@app
def count(text): return len(text)
with flow():
    n = count("x" * 100_000)
if "lose" in sys.argv:
    n.seq
    os.unlink(*glob.glob("jobs/*.results/*/*.json"))
print(n.result())
"""
    project.file("flow.py", HEAD + text)
    said = project.start(command=("flow.py", "lose")).wait(1).text
    assert "so it is an argument: run the script again, which writes it, and then " in said
    project.start(command=("flow.py",)).wait(1)
    project.start(*command_in(said), command=("-m", "taskfleet")).wait()
    assert "100000" in project.start(command=("flow.py",)).wait().text


def test_futures_are_found_wherever_they_stand(project):
    project.run("""
import dataclasses

@dataclasses.dataclass
class Pair:
    left: object
    right: object

@app
def one(x): return x
@app
def show(*args, **kwargs): return repr((args, kwargs))

with flow():
    a, b = one(1), one("b")
    both = one.map(x=[10, 20])
    cases = {
        show(a): ((1,), {}),
        show(x=a): ((), {"x": 1}),
        show([a, [b]]): (([1, ["b"]],), {}),
        show((a, b)): (((1, "b"),), {}),
        show({"k": a, 2: b}): (({"k": 1, 2: "b"},), {}),
        show(Pair(a, [b])): ((Pair(1, ["b"]),), {}),
        show(a, a, k=a): ((1, 1), {"k": 1}),
        show(both, first=both[0], rest=both[1:]): (([10, 20],), {"first": 10, "rest": [20]}),
        show([both, {"deep": both[::-1]}]): (([[10, 20], {"deep": [20, 10]}],), {}),
        show(succeeded(both)): (([10, 20],), {}),
        show({"$task": a}): (({"$task": 1},), {}),
    }
for future, expected in cases.items():
    assert future.result() == repr(expected), (future.result(), expected)
""")


def test_futures_in_arguments_too_large_for_a_row(project):
    """Text above the limit for inline values goes to a file, but where it refers to tasks the ledger has to see it."""
    project.run("""
@app
def one(x): return x
@app
def total(xs, text): return sum(xs) + len(text)

with flow():
    ones = [one(n) for n in range(5)]
    assert total(ones * 2000, "x" * 100_000).result() == 20_000 + 100_000
    assert sum(one.map([ones[0], {"x": ones[1], "text": "x" * 100_000}]).result()[1]["text"] == "x" * 100_000 for _ in "a") == 1
""")


@pytest.mark.parametrize(
    "value", [object(), len, [1, {"a": object()}], iter([])], ids=lambda value: type(value).__name__
)
def test_an_unsupported_value_is_refused_by_the_call(project, value):
    with (
        project.calls("""
@app
def f(x): pass
""") as (task, _),
        pytest.raises(
            UsageError, match=r"task:f: the argument x.* cannot be passed between tasks\. Pass a supported type"
        ),
    ):
        task.f(value)


def test_a_result_that_cannot_be_passed_fails_the_task_with_the_place(project):
    said = project.run("""
@app
def f(): return {"a": [object()]}
with flow():
    found = f()
print(found.exception())
""")
    assert "['a'][0]" in said or "a[0]" in said or "result.a" in said, said
    assert "Return a supported type" in said


def test_values_that_are_pickled(project):
    """Only where both functions declare it."""
    project.run("""
class Model:
    def __init__(self, weights): self.weights = weights

@app(pickle=True)
def fit(n): return Model([n] * 3)
@app(pickle=True)
def apply(model, function): return function(sum(model.weights))
@app
def plain(model): return model.weights

with flow():
    model = fit(2)
    value = apply(model, lambda x: x + 0.5)
    refused = plain(model)
    large = fit("x" * 100_000)
assert value.result() == 6.5
assert model.result().weights == [2, 2, 2]
assert "pickle=True" in str(refused.exception()), refused.exception()
assert large.result().weights == ["x" * 100_000] * 3
""")
