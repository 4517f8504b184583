"""Limits on time and memory, and tasks that try to get round them."""

import re

import pytest
from taskfleet.tasks import Outcome

TIME = """
    import os, signal, subprocess, sys, threading, time

    def ignores_sigterm():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(1000)

    def blocks_all_signals():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(1000)

    def sits_in_c_code():
        sum(range(10**12))

    def multiplies():
        7 ** (10**9)

    def waits_for_a_child():
        subprocess.run(["sleep", "1000"])

    def waits_for_a_child_that_ignores_signals():
        code = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); signal.pause()"
        subprocess.run([sys.executable, "-c", code])

    def waits_for_a_child_in_another_session():
        subprocess.run(["sleep", "1000"], start_new_session=True)

    def catches_everything():
        while True:
            try:
                time.sleep(1000)
            except BaseException:
                pass

    def waits_for_a_thread():
        thread = threading.Thread(target=time.sleep, args=(1000,))
        thread.start()
        thread.join()

    def stops_itself():
        os.kill(os.getpid(), signal.SIGSTOP)

    def forks_and_forks():
        for _ in range(20):
            if os.fork() == 0:
                os.setsid()
                if os.fork():
                    os._exit(0)
                time.sleep(1000)
        time.sleep(1000)

    def run_task(case):
        note(case)
        if not case.startswith("quick"):
            globals()[case]()
        return case
"""
TIME_CASES = re.findall(r"def (\w+)\(\):", TIME)


@pytest.mark.slow
@pytest.mark.every_start_method
def test_no_task_runs_longer_than_it_may(project, per_process):
    project.write(TIME, TASKS_PER_PROCESS=per_process, MAX_RUNTIME_SECONDS=0.7, RETRIES_ON_EXIT=3)
    quick = [f"quick{index}" for index in range(len(TIME_CASES))]
    names = [name for pair in zip(quick, TIME_CASES, strict=True) for name in pair]
    project.insert({name: {"case": name} for name in names}).work()
    for name in TIME_CASES:
        assert project.task(name).kind is Outcome.TIMEOUT, (name, project.task(name))
        assert project.failure(name) == "Timeout: the task ran longer than MAX_RUNTIME_SECONDS=0.7"
        attempt = project.last(name)
        assert 0.69 < attempt.elapsed_seconds < 10
        assert attempt.exit_code is None
    for name in quick:
        assert project.result(name) == name
    assert project.noted() == dict.fromkeys(names, 1)


@pytest.mark.every_start_method
def test_a_task_that_ran_too_long_is_retried_if_the_settings_allow_it(project, per_process):
    project.write(
        """
        import time
        def run_task(context):
            note("once")
            if context.attempt == 1: time.sleep(1000)
        """,
        TASKS_PER_PROCESS=per_process,
        MAX_RUNTIME_SECONDS=0.5,
        RETRIES_ON_TIMEOUT=1,
    )
    project.insert([{}]).work()
    assert project.counts() == {"succeeded": 1}
    assert [attempt.outcome for attempt in project.task("t0").attempts] == [Outcome.TIMEOUT, Outcome.SUCCEEDED]


@pytest.mark.every_start_method
def test_the_time_limit_counts_from_the_start_of_each_task(project, per_process):
    project.write(
        "import time\ndef run_task(): time.sleep(0.25)", TASKS_PER_PROCESS=per_process, MAX_RUNTIME_SECONDS=1.2
    )
    project.insert([{}] * 8).work("--slots", 1)
    assert project.counts() == {"succeeded": 8}


MEMORY = """
    import mmap, os, subprocess, sys, time

    HOG = "x = bytearray(b'x') * (900 << 20); import time; time.sleep(1000)"

    def fill(area, mib):
        for at in range(0, mib << 20, 4096):
            area[at] = 1

    def maps_50_gb():
        area = mmap.mmap(-1, 50 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
        fill(area, 10)
        wait_for("measured")

    def maps_50_gb_shared():
        area = mmap.mmap(-1, 50 << 30, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | 0x4000)
        wait_for("measured")

    def reads_a_big_file():
        with open("big", "wb") as file:
            file.truncate(900 << 20)
        with open("big", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as area:
            sum(area[at] for at in range(0, len(area), 4096))
            wait_for("measured")

    def touches_too_much():
        data = bytearray(b"x") * (900 << 20)
        time.sleep(1000)

    def touches_a_private_map():
        area = mmap.mmap(-1, 50 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
        fill(area, 900)
        time.sleep(1000)

    def touches_a_shared_map():
        area = mmap.mmap(-1, 900 << 20)
        fill(area, 900)
        time.sleep(1000)

    def many_objects():
        hoard = []
        while True:
            hoard.append([str(len(hoard))])

    def has_a_child_that_does():
        subprocess.run([sys.executable, "-c", HOG])

    def has_many_children_that_do():
        code = HOG.replace("900", "200")
        children = [subprocess.Popen([sys.executable, "-c", code], start_new_session=True) for _ in range(4)]
        children[0].wait()

    def has_a_daemon_that_does():
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                exec(HOG)
            os._exit(0)
        time.sleep(1000)

    def run_task(case):
        note(case)
        if not case.startswith("quick"):
            globals()[case]()
        return case
"""
FRUGAL = ("maps_50_gb", "maps_50_gb_shared", "reads_a_big_file")
GREEDY = (
    "touches_too_much",
    "touches_a_private_map",
    "touches_a_shared_map",
    "many_objects",
    "has_a_child_that_does",
    "has_many_children_that_do",
    "has_a_daemon_that_does",
)


@pytest.mark.slow
@pytest.mark.every_start_method
def test_the_memory_limit_counts_used_memory_and_not_mapped_files(project, per_process):
    project.write(
        MEMORY, TASKS_PER_PROCESS=per_process, MEMORY_LIMIT_GIB=0.5, RETRIES_ON_EXIT=3, RETRIES_ON_EXCEPTION=3
    )
    names = [*FRUGAL, *GREEDY, "quick1", "quick2"]
    worker = project.insert({name: {"case": name} for name in names}).start("--slots", 3)
    project.until_noted(*FRUGAL)
    project.open_gate("measured")
    worker.wait()
    for name in (*FRUGAL, "quick1", "quick2"):
        assert project.result(name) == name
    for name in GREEDY:
        assert project.task(name).kind is Outcome.MEMORY, (name, project.task(name))
        assert re.fullmatch(
            r"Memory: the task used 0\.[5-9]\d GiB; MEMORY_LIMIT_GIB is 0\.5|Memory: the task used [1-3]\.\d\d GiB; .*",
            project.failure(name),
        )
    assert project.noted() == dict.fromkeys(names, 1)


@pytest.mark.slow
def test_memory_is_measured_soon_again_however_long_that_took(project):
    project.write(
        """
        import time
        def run_task():
            time.sleep(1)
            x = bytearray(b"x") * (600 << 20)
            time.sleep(1000)
        """,
        MEMORY_LIMIT_GIB=0.3,
        MAX_RUNTIME_SECONDS=20,
    )
    (project.folder / "sitecustomize.py").write_text(
        "import time, taskfleet.worker.runner_process as runner_process\n"
        "measure = runner_process.memory_bytes\n"
        "def memory_bytes(*arguments, **options):\n"
        "    time.sleep(2)\n"
        "    return measure(*arguments, **options)\n"
        "runner_process.memory_bytes = memory_bytes\n"
    )
    project.insert([{}]).work(environment={"PYTHONPATH": str(project.folder)})
    assert project.task("t0").kind is Outcome.MEMORY


def test_memory_loaded_at_import_counts_once_for_all_tasks(project, per_process):
    project.write(
        """
        import time
        TABLE = bytearray(b"x") * (800 << 20)
        def run_task(): time.sleep(0.5); return TABLE[-1]
        """,
        TASKS_PER_PROCESS=per_process,
        MEMORY_LIMIT_GIB=0.5,
    )
    project.insert([{}] * 2).work()
    assert project.counts() == {"succeeded": 2}


def test_a_task_over_its_memory_limit_is_retried_if_the_settings_allow_it(project):
    project.write(
        """
        import time
        def run_task(context):
            if context.attempt == 1:
                x = bytearray(b"x") * (600 << 20)
                time.sleep(1000)
        """,
        MEMORY_LIMIT_GIB=0.3,
        RETRIES_ON_MEMORY=1,
    )
    project.insert([{}]).work()
    assert [attempt.outcome for attempt in project.task("t0").attempts] == [Outcome.MEMORY, Outcome.SUCCEEDED]
