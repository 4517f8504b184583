"""Calls: their parameters, what is refused by the call itself, and where calls may be made."""

import re
import threading

import pytest
from taskfleet import cli
from taskfleet.errors import QueueError, TaskfleetError, UsageError
from taskfleet.graph import app, current, flow


def test_every_kind_of_parameter(project):
    project.run("""
@app
def positional(x, /, y=2, *, z=3): return [x, y, z]
@app
def star(x, y=2, *args, z=3, **kwargs): return [x, y, list(args), z, kwargs]
@app
def default(x, /, y=5): return [x, y]
@app
def some(a=1, /, b=2): return [a, b]

with flow():
    cases = [
        (positional(1), [1, 2, 3]), (positional(1, 5, z=6), [1, 5, 6]), (positional(1, y=7), [1, 7, 3]),
        (star(1), [1, 2, [], 3, {}]), (star(1, 5, 6, 7, z=8, k=9), [1, 5, [6, 7], 8, {"k": 9}]), (star(x=1, k=2), [1, 2, [], 3, {"k": 2}]),
        (star(1, 5, positional(1)), [1, 5, [[1, 2, 3]], 3, {}]), (star(1, k=positional(1)), [1, 2, [], 3, {"k": [1, 2, 3]}]),
        (default(1), [1, 5]), (some(b=3), [1, 3]), (some(4), [4, 2]),
    ]
for future, expected in cases:
    assert future.result() == expected, (future.result(), expected)
""")


def test_what_the_worker_provides(project):
    project.settings(OUTPUT_PATH="out", MAX_RUNTIME_SECONDS=50).run("""
@app
def all_(context, x, *, output_path, task_id="?"):
    return [context.task_id, context.attempt, context.max_runtime_seconds, x, output_path[-3:], task_id]
@app
def last(x, context=None, **kwargs): return [x, context.job_id, kwargs]
@app
def given(x, task_id): return [x, task_id]
with flow():
    a, b, c = all_(5), last(1, k=2), given(1, task_id="mine")
    many = given.map([1, 2])
assert a.result() == [a.id, 1, 50.0, 5, "out", a.id], a.result()
assert b.result() == [1, "job", {"k": 2}]
assert c.result() == [1, "mine"]
assert many.result() == [[1, many[0].id], [2, many[1].id]]
""")


SOME = """
@app
def add(x, y=0): return x + y
@app
def only(x, /, **kwargs): return x
def outer():
    @app
    def inner(): pass
    return inner
inner = outer()
nameless = app(lambda x: x)
class Group:
    @staticmethod
    @app
    def member(x): return x
"""


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("add()", "task:add(x, y=0): missing a required argument: 'x'"),
        ("add(1, 2, 3)", "task:add(x, y=0): too many positional arguments"),
        ("add(1, z=3)", "task:add(x, y=0): got an unexpected keyword argument 'z'"),
        ("add(1, x=3)", "task:add(x, y=0): multiple values for argument 'x'"),
        ("only(1, x=2)", "the name 'x' cannot be one of **kwargs"),
        ("only(1, **{'*': 2})", "the name '*' cannot be one of **kwargs"),
        ("app(3)", "app() takes a function, not 3"),
        ("app(Group)", "app() takes a function, not <class"),
        ("app(min)(1)", "min"),
    ],
)
def test_wrong_arguments_are_refused_by_the_call(project, call, message):
    with project.calls(SOME) as (task, _), pytest.raises(TypeError) as raised:
        eval(call, vars(task))
    assert message in str(raised.value)


def test_functions_that_workers_cannot_import_go_by_value(project):
    with project.calls(SOME) as (task, _):
        assert re.match("outer.inner@[0-9a-f]{16}-", task.inner().id)
        assert re.match("lambda@[0-9a-f]{16}-", task.nameless(1).id)


def test_a_function_in_a_class_has_a_name(project):
    with project.calls(SOME) as (task, _):
        assert task.Group.member(1).id.startswith("Group.member-")


def test_the_same_call_is_the_same_task(project):
    with project.calls(SOME) as (task, one):
        first, second = task.add(1), task.add(x=1)
        assert first.id == second.id
        assert first.seq == second.seq
        assert task.add(1).seq == first.seq
        assert task.add(1, y=0).id != first.id  # a default that is written out may be another call: it is not looked at
        [third] = task.add.map([1])
        assert (third.id, third.seq) == (first.id, first.seq)
        one.send()
        assert (one.added, one.known) == (2, 2), (one.added, one.known)
        with flow("job", project=project.folder) as again:
            assert task.add(1).id == first.id
        assert (again.added, again.known) == (0, 1)


def test_another_queue_than_that_of_the_job_is_refused_by_each_call(project, capsys, monkeypatch):
    """Nothing is added. The command in the message moves the tasks, although only the script names the job."""
    project.settings(JOB_ID="another")
    with project.calls(SOME) as (task, _):
        task.add(1)
    before = project.counts()
    elsewhere = "postgresql://localhost:1/nowhere"
    with project.calls(SOME, queue_url=elsewhere) as (task, one):
        for call in (lambda: task.add(2), lambda: task.add.map([3]), lambda: task.add(2), lambda: task.add(1)):
            with pytest.raises(
                QueueError, match=r"The queue of job 'job' is ledger, but QUEUE_URL is postgresql"
            ) as raised:
                call()
        assert (one.added, one.known) == (0, 0)
    assert project.counts() == before == {"pending": 1}
    _, _, command = str(raised.value).removesuffix(".").partition("poe ")
    assert command == f"move_queue --job-id job --queue-url ledger --to {elsewhere}"
    monkeypatch.chdir(project.folder)
    assert cli.main([*command.replace(elsewhere, "ledger").split(), "--yes"]) == 1
    assert "The tasks are already in QUEUE_URL=ledger" in capsys.readouterr().err


def test_a_call_outside_of_a_flow_is_refused(project):
    with project.calls(SOME) as (task, one):
        current.leave(one, None)
        for call in (lambda: task.add(1), lambda: task.add.map([1])):
            with pytest.raises(UsageError, match="Call apps inside a flow"):
                call()
        current.enter(one)


def test_a_future_of_another_flow_is_refused(project):
    with project.calls(SOME) as (task, one):
        first = task.add(1)
        many = task.add.map(range(10))
        with flow("other", project=project.folder):
            for wrong in (first, [first], many, many[2:4]):
                with pytest.raises(UsageError, match="belongs to another flow"):
                    task.add(wrong)
            with pytest.raises(UsageError, match="belongs to another flow"):
                task.add.map(many)
            with pytest.raises(UsageError, match="belongs to another flow"):
                task.add.map([1, 2], first)
            inner = task.add(1)
        assert task.add(first).id != task.add(inner_result := 1).id, inner_result
        assert inner.seq == 1
        one.send()


def test_calls_in_threads(project):
    """They belong to the flow that is open, and a result may be waited for in any thread."""
    project.run("""
from concurrent.futures import ThreadPoolExecutor
@app
def add(x, y): return x + y
def work(n):
    return add(add(n, 1), add(n, 2)).result()
with flow() as one, ThreadPoolExecutor(8) as pool:
    assert list(pool.map(work, range(40))) == [2 * n + 3 for n in range(40)]
    assert list(pool.map(lambda n: add.map(range(n), y=n).result(), range(8))) == [[m + n for m in range(n)] for n in range(8)]
""")


def test_a_thread_with_several_open_flows_does_not_guess(project):
    with project.calls(SOME) as (task, _), flow("other", project=project.folder):
        errors = []

        def call():
            try:
                task.add(1)
            except TaskfleetError as error:
                errors.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert "several flows" in errors[0]


def test_an_app_of_an_app_is_one(project):
    with project.calls(SOME) as (task, _):
        assert app(task.add).function is task.add.function
        assert task.add.__name__ == "add"
        assert "task.add" in repr(task.add)
