"""Tasks that fail, and what becomes of those that need them."""

import json
import re

from taskfleet.tasks import State

RETRIES = {"RETRIES_ON_EXCEPTION": 0, "RETRIES_ON_EXIT": 0}


def of_function(project, name):
    """The tasks of a function: (state, kind of failure, number of attempts)."""
    return project.ask(
        lambda database: [
            (State(state).word, kind, seq)
            for seq, state, kind in database.rows(
                "SELECT seq, state, kind FROM state JOIN task USING (seq) JOIN task_id USING (seq) WHERE task_id.id LIKE ?",
                (f"{name}-%",),
            )
        ]
    )


def states_of(project, name):
    return sorted(state for state, _, _ in of_function(project, name))


def test_two_parents_fail_at_once(project):
    """Both wait at the same gate, and end in the same moment; their child fails once and names one of them."""
    script = project.begin("""
@app
def fail(name):
    note(name)
    wait_for("gate")
    raise ValueError(name)
@app
def both(a, b): return a + b
@app
def after(x): return x

with flow():
    last = after(both(fail("left"), fail("right")))
    other = after(1)
error = last.exception()
assert "did not succeed because fail-" in str(error) and "ValueError" in str(error), error
assert other.result() == 1
""")
    project.until_noted("left", "right")
    project.open_gate("gate")
    script.wait()
    assert project.counts() == {"failed": 4, "succeeded": 1}


def test_a_parent_that_is_retried_revives_its_descendants(project):
    project.run("""
import os, pathlib
@app
def flaky():
    if not pathlib.Path("fixed").exists():
        raise OSError("no connection")
    return 20
@app
def double(x): return 2 * x

with flow():
    last = double(double(flaky()))
assert "no connection" in str(last.exception())
""")
    assert states_of(project, "double") == ["failed", "failed"]
    (project.folder / "fixed").touch()
    project.start("--failed", command=("-m", "taskfleet", "retry")).wait()
    assert states_of(project, "double") == ["waiting", "waiting"]
    project.file(
        "flow.py", (project.folder / "flow.py").read_text().partition("assert")[0] + "assert last.result() == 80\n"
    )
    project.start(command=("flow.py",)).wait()
    assert project.counts() == {"succeeded": 3}


def test_a_reduce_over_those_that_succeeded(project):
    project.run("""
@app
def maybe(n):
    if n in (3, 50, 99):
        raise ValueError(n)
    return n
@app
def collect(xs): return xs

with flow():
    ns = maybe.map(n=range(100))
    some = collect(succeeded(ns))
    few = collect(succeeded(ns[2:5]))
    all_ = collect(ns)
assert some.result() == [n for n in range(100) if n not in (3, 50, 99)]
assert few.result() == [2, 4]
assert all_.state in ("waiting", "failed"), all_.state
assert "ValueError" in str(all_.exception()) and all_.state == "failed"
assert ns.counts() == {"succeeded": 97, "failed": 3}, ns.counts()
try:
    ns.result()
except Exception as error:
    assert type(error).__name__ == "TaskError", error
else:
    raise AssertionError("ns.result() returned")
""")


def test_a_diamond_runs_each_task_once_and_in_order(project):
    project.run("""
@app
def step(name, *parents):
    note(name)
    return [name, *parents]
with flow():
    top = step("top")
    bottom = step("bottom", step("left", top), step("right", top), top)
assert bottom.result() == ["bottom", ["left", ["top"]], ["right", ["top"]], ["top"]]
""")
    order = (project.folder / "notes.txt").read_text().split()
    assert (order[0], sorted(order[1:3]), order[3:]) == ("top", ["left", "right"], ["bottom"])


def test_a_task_that_crashes_or_exits_fails_its_children(project):
    project.run("""
import os, signal, sys
@app
def crash(): os.kill(os.getpid(), signal.SIGSEGV)
@app
def leave(): sys.exit(3)
@app
def child(x): return x
with flow():
    a, b = child(crash()), child(leave())
assert "SIGSEGV" in str(a.exception()), a.exception()
assert "3" in str(b.exception()), b.exception()
""")


def test_the_states_and_times_of_futures(project):
    script = project.begin("""
@app
def gate(name):
    print("said by", name, flush=True)
    note(name)
    wait_for(name)
    return name
@app
def after(x): return x

with flow():
    first = gate("first")
    second = after(first)
assert (first.state, second.state) == ("pending", "waiting")
assert not first.done() and not second.done()
for wait in (second.result, second.exception):
    try:
        wait(timeout=0)
    except TimeoutError:
        pass
    else:
        raise AssertionError("it waited")
note("checked")
assert second.result() == "first" and second.done() and second.state == "succeeded" and second.exception() is None
assert first.output() == "said by first\\n", first.output()
assert second.output() == ""
assert second.result(timeout=0) == "first"
""")
    project.until_noted("checked")
    project.open_gate("first")
    script.wait()


def test_standard_output_and_error_of_a_task_are_apart(project):
    """In its future, in ``poe task`` and in ``poe explain``; each is limited on its own."""
    text = """
import os, sys
@app
def speak(word):
    for n in range(100):
        print(word, n)
        print("no", word, n, file=sys.stderr)
    os.system("echo child >&2")
    raise ValueError(word)
@app
def quiet(): pass
@app(bash=True)
def shell(): return "echo one; echo two >&2"
with flow():
    spoken, silent, command = speak("well"), quiet(), shell()
assert (spoken.stdout, spoken.stderr) == ("", "")
spoken.exception()
print(spoken.id)
assert (silent.result(), silent.stdout, silent.stderr) == (None, "", "")
assert (command.result(), command.stdout, command.stderr) == (None, "one\\n", "two\\n")
assert command.output() == "one\\ntwo\\n"
assert spoken.stdout == "".join(f"well {n}\\n" for n in range(100))[-500:], spoken.stdout
assert spoken.stderr == ("".join(f"no well {n}\\n" for n in range(100)) + "child\\n")[-500:], spoken.stderr
"""
    said = project.settings(OUTPUT_TAIL_KIB=500 / 1024, RETRIES_ON_EXCEPTION=0).run(text)
    task_id = re.search(r"^speak-\w+", said, re.MULTILINE)[0]
    shown = project.start("task", task_id, command=("-m", "taskfleet")).wait().text
    assert "  Standard output:\n" in shown
    assert "    well 99\n  Standard error:\n" in shown
    assert shown.endswith("    no well 99\n    child\n")
    found = json.loads(project.start("task", task_id, "--json", command=("-m", "taskfleet")).wait().text)["attempts"][0]
    assert found["output"] == found["stdout"] + found["stderr"]
    assert found["stderr"].endswith("no well 99\nchild\n")
    explained = project.start("explain", task_id, command=("-m", "taskfleet")).wait().text
    assert "The end of its standard output:\n  well 95\n  well 96\n  well 97\n  well 98\n  well 99\n" in explained
    assert (
        "The end of its standard error:\n  no well 96\n  no well 97\n  no well 98\n  no well 99\n  child\n" in explained
    )


def test_a_task_cannot_return_what_stands_for_a_result(project):
    """A call inside a task runs the function, so there are no futures; one that was made while the script was imported is refused."""
    project.run("""
@app
def one(x): return x + 1
@app
def nested(x): return one(one(x))
@app
def wrong(): return kept
with flow():
    kept = one(1)
    a, b = nested(1), wrong()
assert a.result() == 3
error = str(b.exception())
assert "a task returns values, not the results of other calls. Pass the future to the task as an argument." in error, error
""")
