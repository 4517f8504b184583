"""The arguments of a task function, its result, and the effects of the user's module."""

import csv
import json
import math
import re
import subprocess
import sys

import pyarrow.feather
import pyarrow.parquet
import pytest
from taskfleet.tasks import Outcome, State

GOOD = {
    "none": ("None", None),
    "true": ("True", True),
    "zero": ("0", 0),
    "negative": ("-(2**62)", -(2**62)),
    "beyond_64_bits": ("2**70", 2**70),
    "float": ("0.1", 0.1),
    "empty_text": ("''", ""),
    "text": ("'a\\n\"é😀\\x00'", 'a\n"é😀\x00'),
    "list": ("[1, [2.5, 'x'], None]", [1, [2.5, "x"], None]),
    "tuple": ("(1, 2)", [1, 2]),
    "object": ("{'b': {'c': []}, 'a': 1}", {"a": 1, "b": {"c": []}}),
    "nan": ("math.nan", None),
    "nan_inside": ("{'a': [math.nan, 1.0]}", {"a": [None, 1.0]}),
    "numpy_float": ("numpy.float32(0.5)", 0.5),
    "numpy_double": ("numpy.float64(0.1)", 0.1),
    "numpy_int": ("numpy.uint64(2**64 - 1)", 2**64 - 1),
    "numpy_bool": ("numpy.bool_(True)", True),
    "numpy_nan": ("numpy.float64('nan')", None),
    "numpy_array": ("numpy.arange(3)", [0, 1, 2]),
    "numpy_text": ("numpy.str_('a')", "a"),
    "numpy_inside": ("{'a': numpy.int8(-1), 'b': [numpy.float32('nan')]}", {"a": -1, "b": [None]}),
    "date": ("datetime.date(2024, 2, 29)", "2024-02-29"),
    "time": ("datetime.datetime(2024, 2, 29, 1, tzinfo=datetime.UTC)", "2024-02-29T01:00:00+00:00"),
    "path": ("pathlib.PurePosixPath('/a/b')", "/a/b"),
    "array_of_zero_dimensions": (
        "{'t': numpy.array(numpy.datetime64('2024-03-31T01:30', 'ns'))}",
        {"t": "2024-03-31T01:30:00"},
    ),
    "structured_array": ("numpy.array([(1, 2.5)], [('b', 'i4'), ('a', 'f8')])", [{"b": 1, "a": 2.5}]),
    "keys_that_are_numbers": ("{2024: 1, numpy.int8(3): numpy.float32(0.5)}", {"2024": 1, "3": 0.5}),
}
BAD = {
    "an_object": ("object()", "object"),
    "a_set": ("{1, 2}", "set"),
    "bytes": ("b'abc'", "bytes"),
    "complex": ("1j", "complex"),
    "infinity": ("{'a': [1.0, -math.inf]}", "infinity"),
    "surrogate": ("'ab\\ud800'", "surrogate"),
    "surrogate_inside": ("{'k': ['\\udfff']}", "surrogate"),
    "surrogate_key": ("{'\\udfff': 1}", "surrogate"),
    "circular": ("circular()", "deep|itself|circular"),
    "circular_object": ("circular_object()", "deep|itself|circular"),
    "key": ("{(1, 2): 3}", "key"),
    "keys_alike": ("{1: 2, '1': 3}", "two of its keys are '1' as text"),
    "too_many_digits": ("10**5000", "digits"),
    "function": ("print", "builtin"),
    "generator": ("(i for i in range(3))", "generator"),
    "nested_too_deep": ("nested(100_000)", "deep|recursion"),
}
RESULTS = f"""
    import datetime, math, pathlib
    import numpy

    def circular():
        a = []
        a.append(a)
        return a

    def circular_object():
        a = {{}}
        a['a'] = a
        return a

    def nested(depth):
        a = []
        for _ in range(depth):
            a = [a]
        return a

    CASES = {{{", ".join(f"{name!r}: lambda: {code}" for name, (code, _) in (GOOD | BAD).items())}}}

    def run_task(case):
        return CASES[case]()
"""


@pytest.mark.every_start_method
def test_a_result_is_stored_as_json_and_unsupported_values_fail_with_the_reason(project, per_process):
    project.write(RESULTS, TASKS_PER_PROCESS=per_process)
    project.insert({name: {"case": name} for name in GOOD | BAD}).work()
    assert project.counts() == {"succeeded": len(GOOD), "failed": len(BAD)}
    for name, (_, value) in GOOD.items():
        result = project.result(name)
        assert result == value, name
        assert type(result) is type(value), name
    for name, (_, reason) in BAD.items():
        assert project.task(name).kind is Outcome.EXCEPTION, name
        assert re.search(reason, project.failure(name), re.IGNORECASE), (name, project.failure(name))


def test_a_result_is_valid_json_text(project):
    project.write("def run_task(): return {'é': float('nan'), 'a': 1.5}").insert([{}]).work()
    text = project.last("t0").result
    assert json.loads(text, parse_constant=lambda constant: pytest.fail(constant)) == {"é": None, "a": 1.5}


def test_a_result_comes_out_of_every_format_as_it_was_returned(project):
    project.write(
        """
        import numpy
        RETURNED = {
            "time": numpy.array(numpy.datetime64("2024-03-31T01:30", "ns")),
            "zip": numpy.str_("0123"),
            "long": numpy.int64(2**53 + 1),
        }
        def run_task(n): return RETURNED if n else {"long": 0.5}
        """
    )
    project.insert([{"n": 1}, {"n": 0}]).work()
    command = [sys.executable, "-m", "taskfleet", "results", "-o"]
    for suffix in ("csv", "json", "jsonl", "parquet", "feather"):
        subprocess.run([*command, f"r.{suffix}"], cwd=project.folder, env=project.environment(), check=True)
    with (project.folder / "r.csv").open(newline="") as file:
        tables = {"csv": list(csv.DictReader(file))}
    assert ',"0123",9007199254740993\n' in (project.folder / "r.csv").read_text()
    tables["parquet"] = pyarrow.parquet.read_table(project.folder / "r.parquet").to_pylist()
    tables["feather"] = pyarrow.feather.read_table(project.folder / "r.feather").to_pylist()
    names = ("result_time", "result_zip", "result_long")
    for rows in tables.values():
        assert [rows[0][name] for name in names] == ["2024-03-31T01:30:00", "0123", "9007199254740993"]
        assert rows[1]["result_long"] == "0.5"
    tables = [json.loads((project.folder / "r.json").read_text())]
    tables.append([json.loads(line) for line in (project.folder / "r.jsonl").read_text().splitlines()])
    for rows in tables:
        assert [rows[0][name] for name in names] == ["2024-03-31T01:30:00", "0123", 2**53 + 1]
        assert rows[1]["result_long"] == 0.5


@pytest.mark.slow
@pytest.mark.every_start_method
def test_large_results_are_kept_up_to_the_limit_and_beyond_it_are_not_tried_again(project, per_process):
    project.write(
        "def run_task(mib): note(mib); return 'é' * (mib << 19)",
        TASKS_PER_PROCESS=per_process,
        MAX_RESULT_MIB=24,
        RETRIES_ON_EXCEPTION=3,
    )
    project.insert({"small": {"mib": 1}, "large": {"mib": 20}, "too_large": {"mib": 25}, "behind": {"mib": 0}})
    project.work("--slots", 1)
    assert project.result("large") == "é" * (20 << 19)
    assert project.result("small") == "é" * (1 << 19)
    assert project.result("behind") == ""
    assert project.failure("too_large").startswith(
        "ResultTooLarge: the result is 25.0 MiB of JSON; MAX_RESULT_MIB is 24."
    )
    assert set(project.noted().values()) == {1}


@pytest.mark.every_start_method
def test_a_function_gets_its_columns_and_the_injected_parameters(project, per_process):
    project.write(
        """
        import os
        def run_task(a, b=5, *, context, output_path, task_id):
            assert not context.stopping and not context.terminating
            return {"a": a, "b": b, "output_path": output_path, "same": context.output_path, "task_id": task_id,
                    "id": context.task_id, "args": context.args, "attempt": context.attempt, "job_id": context.job_id,
                    "slots": context.slots, "limits": [context.max_runtime_seconds, context.memory_limit_gib],
                    "folder": os.getcwd(), "host": bool(context.hostname), "cpus": context.cpu_count > 0}
        """,
        TASKS_PER_PROCESS=per_process,
        OUTPUT_PATH="s3://bucket/x",
        MAX_RUNTIME_SECONDS=90,
        MEMORY_LIMIT_GIB=2.5,
    )
    project.insert([{"a": 1}, {"a": [1, "x"], "b": None}]).work("--", "--my-option", "3", "--", "-x")
    expected = {
        "output_path": "s3://bucket/x",
        "same": "s3://bucket/x",
        "args": ["--my-option", "3", "--", "-x"],
        "attempt": 1,
        "job_id": "job",
        "slots": 2,
        "limits": [90, 2.5],
        "folder": str(project.folder),
        "host": True,
        "cpus": True,
    }
    assert project.result("t0") == expected | {"a": 1, "b": 5, "task_id": "t0", "id": "t0"}
    assert project.result("t1") == expected | {"a": [1, "x"], "b": None, "task_id": "t1", "id": "t1"}


def test_arguments_after_two_hyphens_are_the_modules_argv(project):
    project.write("import sys\nARGV = list(sys.argv)\ndef run_task(): return ARGV").insert([{}]).work("--", "-v", "x")
    assert project.result("t0") == ["task:run_task", "-v", "x"]


def test_a_column_the_function_does_not_know_is_an_exception(project, per_process):
    project.write("def run_task(a): return a", TASKS_PER_PROCESS=per_process).insert([{"b": 1}, {"a": 2}]).work()
    assert project.failure("t0").startswith("TypeError: run_task() got an unexpected keyword argument 'b'")
    assert project.result("t1") == 2


def test_a_function_of_the_rms_style_runs_unchanged(project, per_process):
    project.write(
        """
        def process_task(task_id, task_data, worker_data):
            if task_data["n"] == 0:
                return False, {"id": task_id, "data": task_data, "args": worker_data.args.rest, "cpus": worker_data.num_cpus > 0,
                               "tasks": worker_data.num_simultaneous_tasks, "runtime": worker_data.max_runtime,
                               "told": [worker_data.received_termination_notice, worker_data.received_shutdown_request]}
            if task_data["n"] == 1:
                return False, None
            if task_data["n"] == 2:
                note(task_id)
                return True, "not yet"
            return "neither"
        """,
        TASK_FUNCTION="task:process_task",
        TASKS_PER_PROCESS=per_process,
        RETRIES_ON_REQUEST=2,
    )
    project.insert([{"n": n} for n in range(4)]).work("--", "x")
    assert project.result("t0") == {
        "id": "t0",
        "data": {"n": 0},
        "args": ["x"],
        "cpus": True,
        "tasks": 2,
        "runtime": None,
        "told": [False, False],
    }
    assert project.result("t1") == {}
    assert project.failure("t2") == "taskfleet.context.Retry: process_task requested a retry: 'not yet'"
    assert project.task("t2").kind is Outcome.EXCEPTION
    assert project.noted() == {"t2": 3}
    assert (
        project.failure("t3")
        == "TypeError: process_task returned 'neither', not a tuple (retry, result) with a bool first"
    )


@pytest.mark.every_start_method
def test_a_task_can_request_or_forbid_a_retry(project, per_process):
    project.write(
        """
        from taskfleet import Fail, Retry, TaskContext

        class Sooner(Retry):
            def __init__(self):
                pass

        def run_task(case: str, context: TaskContext):
            note(case)
            if case == "fail":
                raise Fail("no use")
            if case == "error" or context.attempt > 2:
                raise ValueError("again\\nand again") if case == "error" else AssertionError
            if context.attempt == 2:
                return "at last"
            if case == "subclass":
                raise Sooner
            raise Retry("not yet") if case == "usual" else Retry(delay_seconds=0.5)
        """,
        TASKS_PER_PROCESS=per_process,
        RETRIES_ON_EXCEPTION=1,
    )
    cases = ("fail", "error", "usual", "delayed", "subclass")
    project.insert({case: {"case": case} for case in cases}).work()
    assert project.failure("fail") == "taskfleet.context.Fail: no use"
    assert project.failure("error") == "ValueError: again"
    assert "and again" in project.last("error").error
    assert project.noted() == {"fail": 1, "error": 2, "usual": 2, "delayed": 2, "subclass": 2}
    assert [attempt.outcome for attempt in project.task("usual").attempts] == [Outcome.RETRY, Outcome.SUCCEEDED]
    assert project.result("subclass") == "at last"
    first, second = project.task("delayed").attempts
    assert second.started_at - first.started_at >= 0.5
    assert project.tally("retries") == 4


@pytest.mark.every_start_method
def test_exported_variables_reach_the_task_and_the_environments_value_comes_first(project, per_process):
    project.write(
        "import os\nAT_IMPORT = os.environ['MINE']\ndef run_task(): return [AT_IMPORT, os.environ['MINE'], os.environ['OTHER']]",
        TASKS_PER_PROCESS=per_process,
        exports={"MINE": "from the file", "OTHER": "from the file"},
    )
    project.insert([{}]).work(environment={"MINE": "from outside"})
    assert project.result("t0") == ["from outside", "from outside", "from the file"]


@pytest.mark.every_start_method
def test_standard_input_is_empty(project, per_process):
    project.write("import sys\ndef run_task(): return sys.stdin.read()", TASKS_PER_PROCESS=per_process)
    project.insert([{}]).work()
    assert project.result("t0") == ""


@pytest.mark.every_start_method
def test_every_task_has_random_numbers_of_its_own(project, per_process):
    project.write(
        """
        import random
        import numpy
        random.seed(1)
        numpy.random.seed(1)
        def run_task(): return [random.random(), float(numpy.random.random()), float(numpy.random.default_rng().random())]
        """,
        TASKS_PER_PROCESS=per_process,
    )
    project.insert([{}] * 20).work()
    drawn = [number for index in range(20) for number in project.result(f"t{index}")]
    assert len(set(drawn)) == 60


# --- what a task prints ---


@pytest.mark.every_start_method
def test_what_a_task_prints_is_kept_with_it_and_nothing_else(project, per_process):
    project.write(
        """
        import os, subprocess, sys
        def run_task(n):
            if n % 3 == 0:
                return
            print(f"out {n}")
            print(f"err {n}", file=sys.stderr)
            print("no newline", end="")
            subprocess.run(["echo", f"child {n}"])
            if n % 3 == 2:
                raise ValueError(n)
        """,
        TASKS_PER_PROCESS=per_process,
    )
    project.insert([{"n": n} for n in range(12)]).work()
    for n in range(12):
        output = project.last(f"t{n}").output
        if n % 3 == 0:
            assert output is None
        else:
            assert sorted(re.split(r"(?<=\n)|(?<=no newline)", output)) == sorted(
                [f"out {n}\n", f"err {n}\n", "no newline", f"child {n}\n", ""]
            )


@pytest.mark.slow
@pytest.mark.every_start_method
def test_the_end_of_a_million_lines_is_kept(project, per_process):
    project.write(
        """
        def run_task(n):
            if n == 1:
                for i in range(1_000_000):
                    print(f"line {i:07}")
                wait_for("gate")
            elif n == 2:
                import os
                print("a last word")
                os.abort()
            else:
                print("little")
        """,
        TASKS_PER_PROCESS=per_process,
        OUTPUT_TAIL_KIB=1,
    )
    worker = project.insert([{"n": n} for n in range(4)]).start("--slots", 1)
    worker.process.poll()
    project.open_gate("gate")
    worker.wait()
    wanted = "".join(f"line {i:07}\n" for i in range(999_900, 1_000_000))
    assert project.last("t1").output == wanted[-1024:]
    assert project.last("t2").output == "a last word\n"
    assert project.last("t0").output == project.last("t3").output == "little\n"


@pytest.mark.every_start_method
def test_what_a_task_printed_before_it_crashed_or_was_killed_is_kept(project, per_process):
    project.write(
        """
        import ctypes, os, time
        def run_task(n):
            print(f"before {n}")
            if n == 1: ctypes.string_at(0)
            if n == 2: os._exit(3)
            if n == 3: time.sleep(1000)
        """,
        TASKS_PER_PROCESS=per_process,
        MAX_RUNTIME_SECONDS=0.5,
    )
    project.insert([{"n": n} for n in range(5)]).work()
    assert [project.last(f"t{n}").output for n in range(5)] == [f"before {n}\n" for n in range(5)]
    kinds = [project.task(f"t{n}").kind for n in range(5)]
    assert kinds == [None, Outcome.EXIT, Outcome.EXIT, Outcome.TIMEOUT, None]


def test_output_can_be_done_without(project, per_process):
    project.write("def run_task(): print('x' * 100)", TASKS_PER_PROCESS=per_process, OUTPUT_TAIL_KIB=0)
    project.insert([{}]).work()
    assert project.last("t0").output is None


# --- how an attempt is recorded ---


@pytest.mark.every_start_method
def test_an_attempts_figures_are_kept(project):
    project.write("import time\ndef run_task(): x = bytearray(200 << 20); time.sleep(0.3); return len(x)")
    project.insert([{}]).work()
    attempt = project.last("t0")
    assert 0.3 <= attempt.elapsed_seconds < 30
    assert 200 < attempt.peak_memory_mib < 1000
    assert attempt.exit_code is None
    assert attempt.worker_id == 1


def test_a_traceback_shows_the_users_code_and_not_ours(project, per_process):
    project.write(
        """
        def inner(): raise KeyError("deep") from OSError("cause")
        def run_task(): inner()
        """,
        TASKS_PER_PROCESS=per_process,
    )
    project.insert([{}]).work()
    error = project.last("t0").error
    assert error.startswith("KeyError: 'deep'\n")
    assert "in inner" in error
    assert "OSError: cause" in error
    assert "runner.py" not in error


def test_a_secret_in_an_error_is_not_recorded(project, per_process):
    project.write(
        """
        from taskfleet import Retry
        def run_task(way):
            if way == "retry": raise Retry("no answer from redis://:hunter2@host/0")
            raise ConnectionError("x" * 100_000 + " postgresql://me:hunter2@host/db " + "y" * (32 * 1024 - 20))
        """,
        TASKS_PER_PROCESS=per_process,
        RETRIES_ON_REQUEST=0,
    )
    project.insert([{"way": "retry"}, {"way": "raise"}]).work()
    for task_id, shown in (("t0", "redis://:***@host/0"), ("t1", "me:***@host/db")):
        assert shown in project.last(task_id).error
        assert "hunter2" not in project.last(task_id).error


# --- the user's module ---


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module_at_all\ndef run_task(): pass", "No module named 'no_such_module_at_all'"),
        ("1 / 0\ndef run_task(): pass", "ZeroDivisionError: division by zero"),
        ("def run_task(: pass", "SyntaxError: "),
        ("def other(): pass", "task.py has no function 'run_task'."),
        ("async def run_task(): pass", "run_task is an async function; write a plain one"),
        ("def run_task(a, /): pass", "its parameter 'a' is positional only"),
        ("run_task = 3", "3 is not a function."),
        ("import sys\nsys.exit('not today')", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os\nos._exit(4)", "The process that imports the task function died while importing it."),
        ("import os\nos.kill(os.getpid(), 11)", "The process that imports the task function died while importing it."),
        (
            "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n1 / 0",
            "ZeroDivisionError: division by zero",
        ),
    ],
)
@pytest.mark.every_start_method
def test_an_unusable_module_is_reported_and_nothing_is_leased(project, source, said):
    project.write("").folder.joinpath("task.py").write_text(source)
    worker = project.insert([{}] * 3).work(code=1)
    assert said in worker.text
    assert worker.text.count("error: ") == 1
    assert "runner.py" not in worker.text
    assert "supervisor.py" not in worker.text
    assert project.counts() == {"pending": 3}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("nowhere:run_task", "TASK_FUNCTION=nowhere:run_task: there is no module 'nowhere' in "),
        ("task:nothing", "task:nothing: "),
        ("task:Thing", "asks"),
    ],
)
def test_a_missing_module_or_function_is_reported(project, function, said):
    project.write("class Thing:\n    def __call__(self, a): return 'asks'\n", TASK_FUNCTION=function)
    if function == "task:Thing":
        project.folder.joinpath("task.py").write_text("class C:\n    def __call__(self): return 'asks'\nThing = C()\n")
        project.insert([{}]).work()
        assert project.result("t0") == "asks"
    else:
        assert said in project.insert([{}]).work(code=1).text


#: A process that waits for its threads at its end, which are there for ever, is not ended by our own alarm or by the supervisor.
NOTHING_ENDS_WHAT_HANGS = """
import signal, sys
signal.alarm = lambda seconds: 0
if "launch_worker" in sys.orig_argv:
    import taskfleet.worker.warm_process as warm_process
    warm_process.END_SECONDS = 1000
"""


def test_a_module_may_print_take_its_time_and_start_threads(project, per_process):
    project.write(
        """
        import sys, threading, time
        print("printed at import")
        print("and to stderr", file=sys.stderr)
        time.sleep(1.5)
        forever = threading.Event()
        threading.Thread(target=forever.wait, daemon=True).start()
        threading.Thread(target=forever.wait).start()
        def run_task(): print("in the task"); return threading.active_count()
        """,
        TASKS_PER_PROCESS=per_process,
    )
    (project.folder / "sitecustomize.py").write_text(NOTHING_ENDS_WHAT_HANGS)
    worker = project.insert([{}] * 5).work(environment={"PYTHONPATH": str(project.folder)})
    assert "printed at import" in worker.text
    assert "and to stderr" in worker.text
    assert project.counts() == {"succeeded": 5}
    assert project.last("t0").output == "in the task\n"


def test_the_modules_handlers_at_fork_are_called_in_the_process_of_each_task(project, per_process):
    project.write(
        """
        import os, threading
        lock = threading.Lock()
        calls = []
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
        os.register_at_fork(before=lambda: calls.append("before"), after_in_child=lambda: calls.append(os.getpid()))
        os.register_at_fork(after_in_child=lambda: 1 / 0)
        def run_task():
            with lock:
                return [calls[-2:], os.getpid()]
        """,
        TASKS_PER_PROCESS=per_process,
    )
    project.insert([{}] * 7).work()
    pids = set()
    for index in range(7):
        (before, at_fork), pid = project.result(f"t{index}")
        assert before == "before"
        assert at_fork == pid
        pids.add(pid)
    assert len(pids) == 7 if per_process == 1 else len(pids) < 7


@pytest.mark.every_start_method
def test_threads_pools_and_logging_work_inside_a_task(project, per_process):
    project.write(
        """
        import logging
        from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
        import multiprocessing
        import subprocess

        def square(n):
            return n * n

        def run_task(n):
            logging.warning("about %d", n)
            with ThreadPoolExecutor(3) as pool:
                threads = sum(pool.map(square, range(n)))
            with multiprocessing.get_context("fork").Pool(2) as pool:
                processes = sum(pool.map(square, range(n)))
            with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
                spawned = sum(pool.map(square, range(n)))
            return [threads, processes, spawned, int(subprocess.check_output(["echo", str(n)]))]
        """,
        TASKS_PER_PROCESS=per_process,
    )
    project.insert([{"n": n} for n in range(3, 7)]).work()
    for index, n in enumerate(range(3, 7)):
        total = sum(i * i for i in range(n))
        assert project.result(f"t{index}") == [total, total, total, n]
        assert f"WARNING:root:about {n}\n" in project.last(f"t{index}").output


# --- what the worker says and writes down ---


@pytest.mark.slow
@pytest.mark.every_start_method
def test_the_events_file_has_one_line_for_each_attempt(project, per_process):
    project.write(
        """
        import os, time
        from taskfleet import Retry
        def run_task(case, context):
            if case == "retry" and context.attempt == 1: raise Retry("not yet")
            if case == "stubborn": raise Retry("never")
            if case == "exception": raise ValueError("bad\\nworse")
            if case == "exit": os._exit(7)
            if case == "timeout": time.sleep(1000)
            if case == "memory":
                x = bytearray(b"x") * (300 << 20)
                time.sleep(1000)
            return {"case": case}
        """,
        TASKS_PER_PROCESS=per_process,
        EVENT_FILE="out/events.jsonl",
        MAX_RUNTIME_SECONDS=8,
        MEMORY_LIMIT_GIB=0.2,
        RETRIES_ON_REQUEST=1,
    )
    cases = ("fine", "retry", "stubborn", "exception", "exit", "timeout", "memory")
    project.insert({case: {"case": case} for case in cases}).work()
    lines = (project.folder / "out" / "events.jsonl").read_text().splitlines()
    events = {(event["task_id"], event["attempt"]): event for event in map(json.loads, lines)}
    assert len(events) == len(lines) == 9
    for event in events.values():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("timestamp"))
        assert event.pop("hostname")
        assert event.pop("elapsed_time") >= 0
    fine = {"event_type": "task_completed", "task_id": "fine", "attempt": 1, "retry": False, "result": {"case": "fine"}}
    assert events["fine", 1] == fine
    first, second = events["retry", 1], events["retry", 2]
    assert (first["event_type"], first["retry"]) == ("task_completed", True)
    assert "not yet" in first["result"]
    assert (second["event_type"], second["retry"], second["result"]) == ("task_completed", False, {"case": "retry"})
    assert events["stubborn", 1]["retry"] is True
    assert (events["stubborn", 2]["event_type"], events["stubborn", 2]["retry"]) == ("task_exception", False)
    assert "never" in events["stubborn", 2]["exception"]
    assert events["exception", 1]["event_type"] == "task_exception"
    assert events["exception", 1]["exception"].startswith("ValueError: bad\nTraceback")
    assert (events["exit", 1]["event_type"], events["exit", 1]["exit_code"]) == ("task_exited", 7)
    assert events["timeout", 1]["event_type"] == "task_timed_out"
    assert "MAX_RUNTIME_SECONDS=8" in events["timeout", 1]["exception"]
    assert events["memory", 1]["event_type"] == "task_memory_exceeded"
    assert "MEMORY_LIMIT_GIB is 0.2" in events["memory", 1]["exception"]


def test_a_worker_that_cannot_begin_writes_a_fatal_event(project):
    project.write("1 / 0", EVENT_FILE="events.jsonl").insert([{}]).work(code=1)
    (event,) = map(json.loads, (project.folder / "events.jsonl").read_text().splitlines())
    assert event["event_type"] == "fatal_exception"
    assert "ZeroDivisionError" in event["exception"]


def test_a_line_for_every_attempt_if_asked_for(project):
    project.write(
        """
        from taskfleet import Retry
        def run_task(context, n):
            if n == 1: raise ValueError("bad\\nworse")
            if n == 2 and context.attempt == 1: raise Retry("not yet", delay_seconds=0.25)
        """
    )
    text = project.insert([{"n": n} for n in range(3)]).work("--verbose").text
    assert re.search(r"^\d\d:\d\d:\d\d  t0 attempt 1: succeeded after ", text, re.MULTILINE)
    assert re.search(r"  t1 attempt 1: exception after .* \(ValueError: bad\)$", text, re.MULTILINE)
    assert re.search(
        r"  t2 attempt 1: retry after .* \(taskfleet.context.Retry: not yet\); retry in 0.25 s$", text, re.MULTILINE
    )
    assert re.search(r"  t2 attempt 2: succeeded after ", text)


def test_plain_lines_of_progress_where_there_is_no_terminal(project):
    project.write("def run_task(n): wait_for(f'g{n}')", PROGRESS_SECONDS=0.1)
    worker = project.insert([{"n": n} for n in range(4)]).start()
    project.open_gate("g0")
    project.open_gate("g1")
    from_here = r"\d\d:\d\d:\d\d  2 of 4 tasks done \(50 %\)"
    while not re.search(from_here, worker.text):
        assert worker.process.poll() is None, worker.text
    project.open_gate("g2")
    project.open_gate("g3")
    worker.wait()
    assert "\r" not in worker.text
    assert "\x1b" not in worker.text


def test_the_final_report_has_all_its_parts(project):
    project.write(
        """
        import os
        def run_task(n):
            if n == 1: raise ValueError("too " + "long " * 3_000_000)
            if n == 2: os._exit(5)
        """
    )
    text = project.insert([{"n": n} for n in range(10)]).work().text
    for part in (
        r"^Worker for job job: 2 concurrent tasks, one process per task\. Press Ctrl-C once to finish the running tasks and stop\.",
        r"^JOB COMPLETE: job$",
        r"^Total tasks: 10$",
        r"^  Succeeded: 8$",
        r"^  Failed: 2$",
        r"^Elapsed time: ",
        r"^Tasks/hour: [\d,.]+$",
        r"^Task durations:$",
        r"^  Range:  .* seconds$",
        r"^  Mean:   .* ± .* seconds$",
        r"^  Median: ",
        r"^  90th %: ",
        r"^  95th %: ",
        r"^       1 exception   for example t1: ValueError: too long",
        r"^       1 exit        for example t2: Exit: the task's process ended with code 5 before the function returned$",
        r"^Next: +(uv run )?poe tasks --state failed +\(",
        r"^ +(uv run )?poe retry --failed +\(",
    ):
        assert re.search(part, text.replace(text[:10], "", 1), re.MULTILINE), (part, text[:5000])
    assert max(map(len, text.splitlines())) < 2000


def test_a_job_without_tasks_to_do_ends_at_once(project):
    project.write("def run_task(): return 1").insert([{}]).work()
    text = project.work().text
    assert "JOB COMPLETE" in text
    assert "poe results -o results.feather" in text
    assert project.task("t0").state is State.SUCCEEDED
    assert math.isfinite(project.last("t0").elapsed_seconds)
