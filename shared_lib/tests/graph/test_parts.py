"""Tasks that return calls, which replace them."""

RECURSION = """
@app
def fib(n):
    note(f"fib {n}")
    return n if n < 2 else add.future(fib.future(n - 1), fib.future(n - 2))
@app
def add(a, b): return a + b

with flow():
    found = fib(8)
print("found", found.result())
"""

PARTS = """
import os
@app
def part(name, index):
    note(f"part {index}")
    if index == 1 and not os.path.exists("repaired"):
        raise ValueError("no part")
    return f"{name}{index}"
@app
def join(parts): return "+".join(parts)
@app
def split(name, number):
    note("split")
    parts = [part.future(name, index) for index in range(number)]
    return {"parts": tuple(parts), "joined": join.future(parts), "number": number}
@app
def after(found): return found["joined"], len(found["parts"])

if __name__ == "__main__":
    with flow():
        found = split("x", 3)
        last = after(found)
    print("last", last.result(), found.result())
"""


def test_a_task_is_replaced_by_calls_that_return_calls(project):
    assert "found 21" in project.run(RECURSION)
    assert project.noted()["fib 2"] == 1  # the same call is the same task


def test_a_child_waits_for_the_calls_that_its_parent_returned(project):
    (project.folder / "repaired").touch()
    said = project.run(PARTS)
    assert "last ('x0+x1+x2', 3) {'parts': ('x0', 'x1', 'x2'), 'joined': 'x0+x1+x2', 'number': 3}" in said
    assert project.noted()["split"] == 1
    assert "none is new" in project.run(PARTS)
    assert project.noted()["part 1"] == 1


def test_a_call_that_fails_is_the_cause_and_is_repaired_alone(project):
    project.settings(RETRIES_ON_EXCEPTION=0)
    said = project.run(PARTS, code=1)
    assert "did not succeed because part-" in said
    assert "no part" in said
    (project.folder / "repaired").touch()
    project.start(command=("-m", "taskfleet", "retry", "--failed")).wait(0)
    assert "last ('x0+x1+x2', 3)" in project.run(PARTS)
    assert (project.noted()["split"], project.noted()["part 0"], project.noted()["part 1"]) == (
        1,
        1,
        2,
    )


def test_changed_parts_run_the_task_again_that_returned_them(project):
    (project.folder / "repaired").touch()
    project.run(PARTS)
    project.settings(ON_CHANGE="rerun")
    changed = PARTS.replace('f"{name}{index}"', 'f"{name}{index}!"')
    assert "last ('x0!+x1!+x2!', 3)" in project.run(changed)


def test_what_only_looks_like_calls_is_a_result(project):
    said = project.run("""
@app
def same(x): return x
with flow():
    found = same({"$calls": {"value": "1", "calls": []}})
print("same", found.result())
""")
    assert "same {'$calls': {'value': '1', 'calls': []}}" in said
