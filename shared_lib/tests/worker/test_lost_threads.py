"""Modules that start threads when they are imported: tasks get them, or the user is told that they do not."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest
from taskfleet.worker.lost_threads import lost_threads

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the default is fork on Linux only")

WITH_EXECUTOR = """
    from concurrent.futures import ThreadPoolExecutor
    pool = ThreadPoolExecutor(2, thread_name_prefix="helper")
    list(pool.map(str, range(4)))
    def run_task(n): return list(pool.map(str, range(n)))
"""


@linux_only
@pytest.mark.parametrize("per_process", [1, 0])
def test_a_module_that_starts_threads_is_imported_by_each_process(project, per_process):
    project.write(WITH_EXECUTOR, TASKS_PER_PROCESS=per_process)
    worker = project.insert([{"n": n} for n in range(4)]).work()
    assert [project.result(f"t{n}") for n in range(4)] == [[], ["0"], ["0", "1"], ["0", "1", "2"]]
    assert "(helper_0, helper_1), which a forked process does not have: each process imports it itself" in worker.text
    assert ("TASKS_PER_PROCESS=100" in worker.text) == (per_process == 1)
    assert worker.text.count("starts threads") == 1


@linux_only
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_each_start_method_that_the_note_can_name_works(project, method):
    project.write(WITH_EXECUTOR, START_METHOD=method, TASKS_PER_PROCESS=100)
    worker = project.insert([{"n": 2}]).work()
    assert project.result("t0") == ["0", "1"]
    assert "starts threads" not in worker.text


@linux_only
def test_where_fork_was_chosen_it_stays_and_the_user_is_told(project):
    project.write(WITH_EXECUTOR.replace("pool.map(str, range(n))", "range(n)"), START_METHOD="fork")
    worker = project.insert([{"n": 2}]).work()
    assert project.result("t0") == [0, 1]
    assert (
        "task starts threads when it is imported (helper_0, helper_1), which a forked process does not have"
        in worker.text
    )
    assert "Set START_METHOD=forkserver" in worker.text


def test_threads_that_run_are_found_and_those_that_ended_are_not():
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="one that waits", daemon=True)
    thread.start()
    assert "one that waits" in lost_threads()
    go_on.set()
    thread.join()
    assert "one that waits" not in lost_threads()


def found_after(code):
    """Return what is found in a new interpreter after some code."""
    after = "import sys\nfrom taskfleet.worker.lost_threads import lost_threads\nprint(lost_threads())"
    done = subprocess.run(
        [sys.executable, "-c", f"{textwrap.dedent(code)}\n{after}"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import taskfleet",
        "import numpy\na = numpy.ones((500, 500))\na @ a",
        "import pyarrow, pyarrow.compute\npyarrow.table({'a': range(100_000)}).group_by('a').aggregate([('a', 'sum')])",
        "from tqdm import tqdm\nbar = tqdm(total=3, miniters=1, mininterval=0)\nbar.update()",
        "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor()",
    ],
    ids=["nothing", "numpy", "pyarrow", "tqdm", "an executor that was not used"],
)
def test_threads_that_tasks_do_not_miss_are_not_found(code):
    assert found_after(code) == "[]"


@linux_only
@pytest.mark.parametrize("name", ["polars-0", "cuda-EvtHandlr", "tokio-rt-worker"])
def test_native_threads_are_known_by_their_names(name):
    code = f"""
        import ctypes, threading
        started, libc = threading.Event(), ctypes.CDLL(None)
        def run():
            libc.prctl(15, {name.encode()!r}, 0, 0, 0)  # PR_SET_NAME
            started.set()
            libc.pause()
        import _thread
        _thread.start_new_thread(run, ())
        started.wait()
    """
    assert found_after(code) == str([name[:15]])


@linux_only
def test_threads_of_openmp_are_known_by_where_they_wait(tmp_path, lacking):
    """Compiled here, because no package that this repository installs uses GNU OpenMP."""
    source = tmp_path / "sum.c"
    source.write_text("int run(void) { int n = 0;\n#pragma omp parallel reduction(+:n)\nn += 1;\nreturn n; }\n")
    library = tmp_path / "sum.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-fopenmp", "-o", library, source], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        lacking("a C compiler with OpenMP (Debian: apt-get install gcc)")
    load = f"import ctypes\nlibrary = ctypes.CDLL({os.fspath(library)!r})"
    assert found_after(load) == "[]"
    assert found_after(f"{load}\nlibrary.run()") == "['OpenMP']"
