"""How scripts define functions, and how workers import them."""

import re

import pytest

from shared_lib.tests.graph.conftest import HEAD

FUNCTIONS = """
import dataclasses
note("run as " + __name__)
FACTOR = 10

@dataclasses.dataclass
class Star:
    flux: float

@app
def times(x): return Star(x * FACTOR)
@app
def flux(star):
    assert type(star) is Star, type(star)
    return star.flux
"""
CALLS = """
with flow() as one:
    star = times(4)
    value = flux(star)
assert value.result() == 40
assert star.result() == Star(40) and type(star.result()) is Star
assert flux(star).result() == 40 if False else True
note("end of " + __name__)
"""


def test_a_script_without_a_guard(project):
    """Workers import it up to the first result that it waits for."""
    project.run(FUNCTIONS + CALLS)
    assert project.noted() == {"run as __main__": 1, "end of __main__": 1, "run as flow": 1}
    assert project.counts() == {"succeeded": 2}


def test_a_script_with_a_guard(project):
    project.run(
        FUNCTIONS + "def main():" + CALLS.replace("\n", "\n    ") + "\nif __name__ == '__main__':\n    main()\n"
    )
    assert project.noted() == {"run as __main__": 1, "end of __main__": 1, "run as flow": 1}


def test_a_script_of_another_name_in_a_folder_of_another_name(project):
    """It is imported by the name of its file; the current folder is not the project's."""
    project.file("my_pipeline.py", "import sys; sys.path.insert(0, '.')\n")
    project.run(FUNCTIONS + CALLS, name="my_pipeline.py")
    assert project.noted()["run as my_pipeline"] == 1


def test_functions_of_the_projects_modules_and_packages(project):
    project.file("task.py", "def one(x): return x + 1\n")
    project.file("pkg/__init__.py", "").file("pkg/mod.py", "from pkg.deep import inner\ndef two(x): return inner(x)\n")
    project.file("pkg/deep/__init__.py", "def inner(x): return x * 2\n")
    project.run("""
import task
from pkg import deep, mod
one, two, inner = app(task.one), app(mod.two), app(deep.inner)
with flow():
    last = inner(two(one(4)))
assert last.result() == 20
""")


def test_a_project_without_task_py(project):
    """What TASK_FUNCTION names is not there, and nobody needs it."""
    said = project.run("""
@app
def one(): return 1
with flow():
    assert one().result() == 1
""")
    assert "task.py" not in said


@pytest.mark.parametrize("per_process", [0, 1])
def test_a_module_that_workers_cannot_import(project, per_process):
    """One clear error, in the result and in what the worker says."""
    project.settings(TASKS_PER_PROCESS=per_process)
    project.file(
        "task.py",
        "import os\nif 'TASKFLEET_DRIVER' not in os.environ:\n    raise RuntimeError('no licence')\ndef f(x): return x\n",
    )
    said = project.run("""
import os
os.environ["TASKFLEET_DRIVER"] = "1"
import task
del os.environ["TASKFLEET_DRIVER"]
f = app(task.f)
with flow():
    many = f.map(range(20))
error = str(many[0].exception())
assert "task:f cannot be imported" in error and "RuntimeError: no licence" in error, error
print(error)
""")
    assert said.count("no licence") < 5, said


def test_a_function_that_is_defined_after_the_first_result(project):
    said = project.run("""
@app
def one(): return 1
with flow():
    one().result()
    @app
    def late(): return 2
    print(late().exception())
""")
    assert "flow.py has no function 'late'" in said
    assert "Define functions before the script waits for a result" in said
    assert "=flow" not in said


def test_a_script_outside_of_the_project_is_refused(project):
    outside = project.folder.parent / "elsewhere.py"
    outside.write_text("""
from taskfleet.graph import app, flow
@app
def one(): return 1
with flow("job"):
    one()
""")
    said = project.start(command=(str(outside),)).wait(1).text
    assert "one is defined in" in said
    assert f"which workers of {project.folder} cannot import. Move it into a module of the project" in said
    assert "Traceback" not in said


def test_calls_at_the_top_level_of_a_module_that_the_script_imports(project):
    """A helper that calls apps works as well as the script itself, and inside a task an app is its function."""
    project.file(
        "helper.py",
        """
from taskfleet.graph import app
@app
def add(x, y): return x + y
def pipeline(x): return add(add(x, 1), 2)
@app
def inner(x): return add(x, 1) + 1
""",
    )
    project.run("""
import helper
with flow():
    assert helper.pipeline(1).result() == 4
    assert helper.inner(5).result() == 7
""")


def test_a_map_inside_a_task_is_refused(project):
    said = project.run("""
@app
def add(x): return x
@app
def many(): return add.map([1])
with flow():
    print(many().exception())
""")
    assert "add.map was called inside a task" in said


@pytest.mark.parametrize(
    ("start_method", "per_process"),
    [
        ("fork", 1),
        ("fork", 3),
        pytest.param("spawn", 0, marks=pytest.mark.slow),
        pytest.param("spawn", 1, marks=pytest.mark.slow),
        ("forkserver", 0),
        pytest.param("forkserver", 1, marks=pytest.mark.slow),
    ],
)
def test_every_start_method(project, start_method, per_process):
    project.settings(TASKS_PER_PROCESS=per_process, START_METHOD=start_method)
    project.run(
        FUNCTIONS
        + """
with flow():
    stars = times.map(range(10))
    fluxes = flux.map(stars)
assert fluxes.result() == [10 * n for n in range(10)]
"""
    )


def test_an_error_of_the_script_is_shown_and_nothing_is_sent(project):
    said = project.run(
        """
@app
def one(x): return x
with flow():
    one(1)
    raise ValueError("mine")
""",
        code=1,
    )
    assert "ValueError: mine" in said
    assert not project.ledger_path.exists() or project.counts() == {}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("one(1)", "Error: Call apps inside a flow"),
        ("flow(slotz=3)", "Error: Unknown setting 'slotz'. Did you mean slots?"),
        ("flow(slots='x')", "Error: Invalid settings:"),
        ("app(3)", "Error: app() takes a function, not 3"),
    ],
)
def test_mistakes_before_there_is_a_flow_are_shown_without_traceback(project, line, error):
    said = project.run(f"@app\ndef one(x): return x\n{line}\n", code=1)
    assert error in said
    assert f"\n    {line}\n" in said
    assert "Traceback" not in said


def test_errors_show_the_line_of_the_script_and_a_command_that_works(project):
    """Not the library's own lines. The command names the job, which config/task.env does not."""
    said = project.settings(JOB_ID="another").run(
        """
@app
def one(x): raise ValueError("mine")
def main():
    with flow():
        one(1).result()
main()
""",
        code=1,
    )
    assert "Traceback" not in said
    assert "one(1).result()" in said
    assert "main()" in said
    assert "futures.py" not in said
    error = said[said.index("Error: one-") :]
    assert "did not succeed: ValueError: mine\nuv run poe task --job-id job one-" in error
    _, _, arguments = error.splitlines()[1].removesuffix(" shows more.").partition("poe ")
    shown = project.start(command=("-m", "taskfleet", *arguments.split())).wait().text
    assert "ValueError: mine" in shown


@pytest.mark.parametrize("call", ["one()", "one(1, 2)", "one.map(z=[1])", "one.map([1], [2])"])
@pytest.mark.parametrize("command", [("flow.py",), ("-m", "taskfleet", "flow")], ids=["python", "poe flow"])
def test_wrong_arguments_are_one_error_with_the_line_of_the_call(project, command, call):
    project.file("flow.py", f"{HEAD}@app\ndef one(x): return x\nwith flow():\n    {call}\n")
    said = project.start(command=command).wait(1 if len(command) == 1 else 2).text
    assert re.search(r"flow\.py\", line \d+, in <module>\n    " + re.escape(call), said), said
    assert re.search(r"^[Ee]rror: flow:one(\.map)?\(x\): ", said, re.MULTILINE), said
    assert "Traceback" not in said
    assert "site-packages" not in said
    assert "taskfleet/graph" not in said


COMMAND = (
    FUNCTIONS
    + """
import sys
with flow():
    star = flux(times(4))
    if sys.argv[1:] == ["wrong"]:
        times(object())
    rest = flux.map(times.map(range(10, 19))) if sys.argv[1:] else None
assert star.result() == 40
"""
)


def test_poe_flow_runs_a_script_whose_classes_travel(project):
    """It says once what is left; an error comes with the line of the script."""
    project.file("flow.py", HEAD + COMMAND)
    said = project.start(command=("-m", "taskfleet", "flow")).wait().text
    assert " left" not in said
    assert project.noted() == {"run as __main__": 1, "run as flow": 1}
    said = project.start(command=("-m", "taskfleet", "flow", "--", "more")).wait(5).text
    assert "2 tasks succeeded, 0 failed, 18 left" in said
    assert "18 tasks left" not in said
    said = project.start(command=("-m", "taskfleet", "flow", "--", "wrong")).wait(2).text
    assert "flow.py" in said.partition("error: ")[0]
    assert "times(object())" in said
    assert "error: flow:times: the argument x is <object" in said
    assert "Traceback" not in said
