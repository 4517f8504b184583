"""Functions that workers cannot import: lambdas, closures, and functions of notebooks and other sessions without a file."""

import json
import re
import subprocess
import sys
from contextlib import closing

import pytest
from taskfleet.errors import UsageError
from taskfleet.ledger.database import open_ledger
from taskfleet.worker import stored_functions

from shared_lib.tests.graph.conftest import HEAD
from shared_lib.tests.worker.conftest import JOB


def in_session(project, text, *, head=HEAD, as_argument=False):
    """Run Python with a text as its standard input, or as the argument of ``-c``; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", head + text] if as_argument else [sys.executable, "-"],
        input=None if as_argument else head + text,
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def functions(project):
    """The functions in the ledger: their options by their names."""
    rows = project.ask(lambda database: database.rows("SELECT name, options FROM function ORDER BY function_id"))
    return {name: json.loads(options) for name, options in rows}


def files(project):
    return sorted(project.folder.glob("jobs/*.results/*/*.pkl"))


def test_each_lambda_and_closure_is_a_function_of_its_own(project):
    """Also two on a line, and those that differ only in a default or in a value of the function around them."""
    text = """
import numpy as np
def make(factor):
    def inner(x, context): return (x * factor).tolist() if hasattr(factor, "tolist") else [x * factor, context.attempt]
    return inner
class Holder:
    def __init__(self, value): self.value = value
    def method(self):
        return lambda: self.value

double, triple = app(lambda x: 2 * x), app(lambda x: 3 * x)
powers = [app(lambda x, k=k: x ** k) for k in range(4)]
arrays = [app(make(np.arange(n))) for n in (1, 2)]
held = [app(Holder(n).method()) for n in (5, 6)]
shell = app(lambda word: ["echo", word], bash=True)
add = app(lambda *xs, **more: sum(xs) + sum(more.values()))
if __name__ == "__main__":
    with flow() as one:
        echo = shell("hello")
        found = [double(4), triple(4), *(one(3) for one in powers), app(make(7))(2), *(one(2) for one in arrays), *(one() for one in held)]
        total = add(*found[:3], k=found[3])
        mapped = triple.map(double.map(range(5)))
    assert [one.result() for one in found] == [8, 12, 1, 3, 9, 27, [14, 1], [0], [0, 2], 5, 6], [one.result() for one in found]
    assert total.result() == 24 and mapped.result() == [0, 6, 12, 18, 24]
    assert echo.result() is None and echo.stdout == "hello\\n"
    print(one.added, "new;", echo.id, found[0].id)
"""
    said = project.run(text)
    assert re.search(r"^22 new; lambda@[0-9a-f]{16}-[0-9a-f]{20} lambda@", said, re.MULTILINE), said
    names = functions(project)
    assert len(files(project)) == len(names) == 13, names
    assert [name for name in names if name.startswith("flow:make.inner@")]
    again = project.start(command=("flow.py",), environment={"PYTHONHASHSEED": "7"}).wait().text
    assert "all 23 calls of the flow; none is new" in again
    assert len(files(project)) == 13
    graph = project.start("graph", command=("-m", "taskfleet")).wait().text
    assert "flow:lambda@" in graph
    assert "stored" not in graph


SESSION = """
import math
FACTOR = 10
def helper(x): return x * FACTOR
@app
def scale(x): return math.floor(helper(x))
@app
def total(xs): return sum(xs)
with flow():
    found = total(scale.map(range(4)))
print("result", found.result(), found.id)
"""


#: Runs the cells of a file as a notebook does: in a kernel's shell, whose namespace is ``__main__``.
NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in open("cells.txt").read().split("# cell"):
    assert shell.run_cell(cell, store_history=True).success
"""


def in_notebook(project, text):
    """Run the cells of a text, which ``# cell`` separates."""
    project.file("cells.txt", HEAD + text)
    return in_session(project, NOTEBOOK, head="")


@pytest.mark.parametrize("kind", ["standard input", "-c", "notebook"])
def test_functions_of_a_session_with_what_they_use(project, kind):
    """Their code and values are detected: what has changed is done again, and nothing else is."""

    def run(text):
        if kind == "notebook":
            return in_notebook(project, text)
        return in_session(project, text, as_argument=kind == "-c")

    assert "result 60 total@" in run(SESSION)
    assert project.counts() == {"succeeded": 5}
    said = run(
        f"# more lines\n{SESSION}".replace("def total(xs): return sum(xs)", "def total(xs): return sum(xs)  # the same")
    )
    assert "all 5 calls of the flow; none is new" in said
    assert "result 60" in said
    said = run(SESSION.replace("FACTOR = 10", "FACTOR = 11"))
    assert "result 66" in said
    assert "scale: 4 tasks were done by other code. Their results are kept" in said
    assert project.counts() == {"succeeded": 10}
    assert len(files(project)) == 3
    assert all(name.startswith("__main__:") for name in functions(project))


CLASS = """
class Model:
    words = {"one", "two", "three"}
    def of(self, x): return x + N
model = Model()
model.known = {"four", "five", "six"}
@app
def by_object(x): return model.of(x)
@app
def by_name(x): return Model().of(x)
either = app(lambda word: word in {"seven", "eight", "nine"} or word in model.known)
with flow():
    found = by_object(1), by_name(1), either("six")
print([one.result() for one in found])
"""


@pytest.mark.parametrize("kind", ["standard input", "-c", "notebook"])
def test_a_class_of_a_session_and_sets_belong_to_the_code(project, monkeypatch, kind):
    """A changed method is other code, also of an object; the order of a set, which differs from run to run, is not."""

    def run(seed, n):
        monkeypatch.setenv("PYTHONHASHSEED", str(seed))
        text = CLASS.replace("N\n", f"{n}\n")
        return in_notebook(project, text) if kind == "notebook" else in_session(project, text, as_argument=kind == "-c")

    assert "[2, 2, True]" in run(1, 1)
    for seed in (2, 3):
        assert "all 3 calls of the flow; none is new" in run(seed, 1)
    assert "[3, 3, True]" in run(4, 2)


def test_the_arguments_of_an_app_are_those_of_its_last_definition(project):
    """The remedy for a result that cannot be passed, and another manager, are in effect for code that is the same."""
    project.settings(RETRIES_ON_EXCEPTION=0).file("config/task.gpu.env", "")
    text = """
def make(): return lambda x: ValueError(x)
with flow():
    found = app(make())(2)
print("first", found.exception())
with flow():
    found = app(make(), pickle=True, manager="gpu")(2)
"""
    assert "app(pickle=True)" in in_session(project, text)
    project.start("--failed", command=("-m", "taskfleet", "retry")).wait()
    assert project.start("launch_worker", "--manager", "gpu", command=("-m", "taskfleet")).wait().text
    assert project.counts() == {"succeeded": 1}


def test_a_notebook_may_define_a_function_again(project):
    """While the worker of the first flow still runs; each cell has its own result."""
    said = in_notebook(
        project,
        """
@app
def f(x): return x + 1
# cell
with flow():
    first = f(1)
print("first", first.result())
# cell
@app
def f(x): return x + 2
# cell
with flow():
    second = f(1)
print("second", second.result(), first.result(), second.id != first.id)
""",
    )
    assert "first 2" in said
    assert "second 3 2 True" in said
    assert said.count("Worker for job") == 1


def test_the_version_of_an_app_replaces_its_code(project):
    text = "@app(version='1')\ndef f(x): return x + {n}\nwith flow():\n    print('result', f(1).result())\n"
    assert "result 2" in in_session(project, text.format(n=1))
    assert "result 2" in in_session(project, text.format(n=2))
    assert "result 3" in in_session(project, text.format(n=2).replace("'1'", "'2'"))


LAMBDA = """
import sys
f = app(lambda x: x + 1)
with flow():
    found = f(len(sys.argv))
if "wait" in sys.argv:
    error = found.exception()
    print(f"error: {error}" if error else f"result {found.result()}")
"""


def test_another_version_of_python_is_refused_by_the_task(project):
    """Running the script again with the version of the workers stores the function for it."""
    project.settings(RETRIES_ON_EXCEPTION=0).run(LAMBDA)
    with closing(open_ledger(project.ledger_path, job_id=JOB)) as database:
        here = f"stored:{stored_functions.PYTHON}:"
        database.execute("UPDATE function SET options = replace(options, ?, 'stored:3.2:')", (here,))
    project.work()
    [(task_id,)] = project.ask(lambda database: database.rows("SELECT id FROM task"))
    assert f"was stored by Python 3.2, and this is Python {stored_functions.PYTHON}" in project.failure(task_id)
    project.run(LAMBDA)
    project.start("--failed", command=("-m", "taskfleet", "retry")).wait()
    project.work()
    assert project.result(task_id) == 2


def test_a_lost_file_of_a_function_is_written_again_by_the_script(project):
    project.settings(RETRIES_ON_EXCEPTION=0).run(LAMBDA)
    [file] = files(project)
    file.unlink()
    project.work()
    [(task_id,)] = project.ask(lambda database: database.rows("SELECT id FROM task"))
    error = project.failure(task_id)
    assert "does not exist. Run the script again, which stores it" in error
    assert "result of a task" not in error
    project.run(LAMBDA)
    assert files(project) == [file]
    project.start("--failed", command=("-m", "taskfleet", "retry")).wait()
    project.work()
    assert project.result(task_id) == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("lambda: lock", r"a value that it uses cannot be pickled \(.*lock.*\)\. Pass data as arguments"),
        ("lambda: len(big)", r"takes 2\.0 MiB with the values that it uses, and at most 1 MiB is allowed"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_the_call(project, function, message):
    text = "import os, threading\ndef make():\n    lock, big = threading.Lock(), os.urandom(2 << 20)\n"
    text += f"    return {function}\nf = app(make())\n"
    with project.calls(text) as (task, one):
        with pytest.raises(UsageError, match=f"task:make.lambda@.*{message}"):
            task.f()
        assert one.added == 0


def test_a_dry_run_stores_nothing(project):
    project.file("flow.py", HEAD + LAMBDA)
    said = project.start("--dry-run", command=("-m", "taskfleet", "flow")).wait().text
    assert re.search(r"flow:lambda@\w{16} +1 +0", said), said
    assert files(project) == []


def test_a_service_without_a_place_for_functions_is_refused_by_the_call(project):
    with project.calls("f = app(lambda: 1)", queue_url="postgresql://localhost:1/nowhere") as (task, one):
        with pytest.raises(
            UsageError, match=r"task:lambda@.* Set RESULTS_PATH to a bucket .* or move the function into a module"
        ):
            task.f()
        assert one.added == 0


@pytest.mark.parametrize("where", ["driver", "worker"])
def test_without_cloudpickle_the_error_has_the_command_that_installs_it(project, where):
    block = "import sys\nsys.modules['cloudpickle'] = None\n"
    if where == "driver":
        said = project.run(block + LAMBDA, code=1)
    else:
        project.settings(RETRIES_ON_EXCEPTION=0).run(LAMBDA)
        project.file("sitecustomize.py", block)
        project.work(environment={"PYTHONPATH": str(project.folder)})
        [(task_id,)] = project.ask(lambda database: database.rows("SELECT id FROM task"))
        said = project.failure(task_id)
    assert (
        "needs the package cloudpickle, which is not installed. Add it to the project: uv add 'taskfleet[cloudpickle]'"
        in said
    )
    assert "Traceback" not in said


def test_a_function_by_value_may_call_others_but_makes_no_calls_inside_a_task(project):
    said = in_session(
        project,
        """
@app
def one(x): return x + 1
@app
def two(x): return one(one(x))
@app
def parts(x): return [one.future(x)]
with flow():
    a, b = two(1), parts(1)
print("result", a.result(), b.exception())
""",
    )
    assert "result 3" in said
    assert "cannot be called with .future inside a task. Define it at the top level of a module of the project." in said
