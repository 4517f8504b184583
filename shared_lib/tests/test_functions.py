"""What a task function wants, and whether a table's columns fit it."""

import functools

import pytest
from taskfleet.context import Retry, TaskContext
from taskfleet.errors import FunctionError
from taskfleet.functions import examine, load_function


def no_parameters(): ...
def two(a, b): ...
def with_default(a, b=1): ...
def keywords_only(*, a, b=1): ...
def anything(**columns): ...
def some_and_anything(a, **rest): ...
def positional_too(a, *rest): ...
def injected(a, context, output_path, task_id): ...
def injected_default(a, context=None): ...
def process_task(task_id, task_data, worker_data): ...
def almost_rms(task_data, task_id, worker_data): ...


class Callable:
    def __call__(self, a, context): ...

    def method(self, a): ...


@pytest.mark.parametrize(
    ("function", "required", "accepted", "accepts_any", "filled", "is_rms_style"),
    [
        (no_parameters, "", "", False, "", False),
        (two, "a b", "a b", False, "", False),
        (with_default, "a", "a b", False, "", False),
        (keywords_only, "a", "a b", False, "", False),
        (anything, "", "", True, "", False),
        (some_and_anything, "a", "a", True, "", False),
        (positional_too, "a", "a", False, "", False),
        (injected, "a", "a", False, "context output_path task_id", False),
        (injected_default, "a", "a", False, "context", False),
        (process_task, "", "", True, "", True),
        (almost_rms, "task_data worker_data", "task_data worker_data", False, "task_id", False),
        (Callable(), "a", "a", False, "context", False),
        (Callable().method, "a", "a", False, "", False),
        (functools.partial(two, b=1), "a", "a b", False, "", False),
        (lambda x: x, "x", "x", False, "", False),
    ],
)
def test_the_parameters_of_a_function(function, required, accepted, accepts_any, filled, is_rms_style):
    found = examine(function)
    assert found.required == set(required.split())
    assert found.accepted == set(accepted.split())
    assert found.accepts_any is accepts_any
    assert found.injected == set(filled.split())
    assert found.is_rms_style is is_rms_style


async def asynchronous(a): ...
def positional(a, b, /): ...


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (3, "3 is not a function."),
        (None, "None is not a function."),
        (asynchronous, "asynchronous is an async function; write a plain one that calls asyncio.run(…)."),
        (positional, "positional: its parameter 'a' is positional only, but columns are passed as keyword arguments."),
    ],
)
def test_a_function_that_cannot_be_used_is_refused(function, fault):
    with pytest.raises(FunctionError) as caught:
        examine(function)
    assert str(caught.value) == fault


@pytest.mark.parametrize(
    ("function", "columns", "fault"),
    [
        (two, "a b", None),
        (two, "a", "the table lacks column b. It takes a, b."),
        (two, "", "the table lacks columns a, b. It takes a, b."),
        (two, "a b c", "the table has column c that two has no parameter for. It takes a, b."),
        (
            two,
            "a c d",
            "the table lacks column b; the table has columns c, d that two has no parameter for. It takes a, b.",
        ),
        (with_default, "a", None),
        (with_default, "b", "the table lacks column a. It takes a, b."),
        (anything, "x y", None),
        (anything, "", None),
        (some_and_anything, "x", "the table lacks column a. It takes a."),
        (no_parameters, "", None),
        (no_parameters, "x", "the table has column x that no_parameters has no parameter for. It takes no columns."),
        (process_task, "anything at all", None),
        (
            injected,
            "a context",
            "the table has column context that injected has no parameter for; the name context is reserved for the worker. It takes a.",
        ),
    ],
)
def test_whether_a_tables_columns_fit(function, columns, fault):
    found = examine(function).column_mismatch(frozenset(columns.split()))
    if fault is None:
        assert found is None
    else:
        name = function.__name__
        assert (
            found.replace(" Rename the columns or the parameters.", "") == f"The columns do not match {name}: {fault}"
        )


@pytest.mark.parametrize("function", [anything, injected, process_task])
def test_columns_that_the_worker_fills_in_are_refused_where_they_would_be_overwritten(function):
    found = examine(function).column_mismatch(frozenset({"a", "context"}))
    assert (found is None) is (function is not injected)


def test_a_call_gets_its_columns_and_the_injected_parameters():
    context = TaskContext.for_test("t1", output_path="out")
    assert examine(two).arguments('{"a": 1, "b": null}', context) == {"a": 1, "b": None}
    expected = {"a": [1], "context": context, "output_path": "out", "task_id": "t1"}
    assert examine(injected).arguments('{"a": [1]}', context) == expected
    arguments = examine(process_task).arguments('{"x": 1}', context)
    assert (arguments["task_id"], arguments["task_data"]) == ("t1", {"x": 1})
    assert arguments["worker_data"].job_id == "test"


def test_the_answer_of_an_rms_function_is_taken_apart():
    function = examine(process_task)
    assert function.result((False, [1])) == [1]
    assert function.result((False, None)) == {}
    with pytest.raises(Retry, match="process_task requested a retry: 'why'"):
        function.result((True, "why"))
    for answer in (None, [False, 1], (0, 1), (False,), (False, 1, 2)):
        with pytest.raises(TypeError, match="not a tuple"):
            function.result(answer)
    assert examine(two).result((True, 1)) == (True, 1)


@pytest.mark.parametrize(
    ("source", "name", "fault"),
    [
        ("", "absent_module:f", "TASK_FUNCTION=absent_module:f: there is no module 'absent_module' in "),
        ("", "here_{n}:f", "has no function 'f'."),
        ("async def f(): ...", "here_{n}:f", "f is an async function"),
    ],
)
def test_a_function_that_cannot_be_loaded_is_reported(tmp_path, monkeypatch, source, name, fault):
    monkeypatch.syspath_prepend(tmp_path)
    n = abs(hash(source))
    (tmp_path / f"here_{n}.py").write_text(source)
    with pytest.raises(FunctionError) as caught:
        load_function(name.format(n=n), tmp_path)
    assert fault in str(caught.value)


def test_a_missing_import_of_the_module_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "needs_something.py").write_text("import certainly_not_there")
    with pytest.raises(FunctionError, match="certainly_not_there"):
        load_function("needs_something:f", tmp_path)


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), -0.001])
def test_an_invalid_retry_delay_is_rejected(delay):
    with pytest.raises(ValueError, match="delay_seconds is"):
        Retry(delay_seconds=delay)


@pytest.mark.parametrize("delay", [None, 0, 0.5, 3600])
def test_a_retry_keeps_its_reason_and_delay(delay):
    error = Retry("why", delay_seconds=delay)
    assert str(error) == "why"
    assert error.delay_seconds == delay
