"""Tasks that crash, leave things behind or reach beyond their own: each meets its fate, and its neighbours do not notice."""

import os
import re
from pathlib import Path

import pytest
from taskfleet.tasks import Outcome, State

CULPRITS = """
    import contextlib, ctypes, gc, io, multiprocessing, os, resource, signal, subprocess, sys, threading, time

    class Own(BaseException):
        pass

    class CannotBeShown(Exception):
        def __str__(self): raise RuntimeError("no text")
        __repr__ = __str__

    class ExitsWhenShown(Exception):
        def __str__(self): sys.exit("no")
        __repr__ = __str__

    class IsNoText(Exception):
        def __str__(self): return 3

    class CannotBeFlushed:
        def write(self, text): pass
        def flush(self): raise RuntimeError("no")

    def segfault(): ctypes.string_at(0)
    def exit_0(): os._exit(0)
    def exit_3(): os._exit(3)
    def sys_exit(): sys.exit()
    def sys_exit_text(): sys.exit("some text")
    def sys_exit_4(): sys.exit(4)
    def sys_exit_minus_1(): sys.exit(-1)
    def sys_exit_huge(): sys.exit(10**30 + 7)
    def sys_exit_unshowable(): sys.exit(CannotBeShown())
    def abort(): os.abort()
    def kill(): os.kill(os.getpid(), signal.SIGKILL)
    def terminate(): os.kill(os.getpid(), signal.SIGTERM)
    def real_time_signal(): os.kill(os.getpid(), signal.SIGRTMIN + 3)
    def replaced_by_another_program(): os.execv("/bin/sh", ["sh", "-c", "exit 9"])
    def recursion(): recursion()
    def recursion_in_c():
        class A:
            def __getattr__(self, name): return getattr(self, name)
        A().x
    def base_exception(): raise Own("mine")
    def keyboard_interrupt(): raise KeyboardInterrupt
    def interrupts_itself(): os.kill(os.getpid(), signal.SIGINT); time.sleep(1000)
    def generator_exit(): raise GeneratorExit
    def cannot_be_shown(): raise CannotBeShown
    def exits_when_shown(): raise ExitsWhenShown
    def is_no_text(): raise IsNoText
    def empty_text(): raise ValueError("\\n\\n")
    def long_text(): raise ValueError("x" * (10 << 20))
    def long_lines(): raise ValueError("line\\n" * (2 << 20))
    def odd_text(): raise ValueError("half \\ud800 and \\x00")
    def chain(): raise ValueError("outer") from CannotBeShown()
    def group(): raise ExceptionGroup("many", [ValueError(n) for n in range(1000)])
    def no_memory(): bytearray(1 << 60)
    def starts_threads():
        for _ in range(5):
            threading.Thread(target=time.sleep, args=(1000,)).start()
    def a_thread_raises():
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    def child_returns():
        os.fork()
    def child_raises():
        if os.fork() == 0: raise ValueError("from the child")
    def child_exits():
        if os.fork() == 0: sys.exit(5)
    def child_runs_on():
        if os.fork() == 0: time.sleep(1000)
    def parent_exits_child_returns():
        if os.fork(): os._exit(6)
    def many_children():
        for _ in range(30):
            if os.fork() == 0:
                os.fork()
                time.sleep(1000)
    def daemon():
        if os.fork() == 0:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            if os.fork() == 0:
                os.closerange(0, 3)
                time.sleep(1000)
            os._exit(0)
    def daemon_program(): subprocess.Popen(["sleep", "1000"], start_new_session=True, stdin=subprocess.DEVNULL)
    def process_pool_left_open():
        pool = multiprocessing.get_context("fork").Pool(2)
        globals()["kept"] = pool
        return pool.apply(sum, ([1, 2],))
    def process_not_joined(): multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,)).start()
    def changes_directory(): os.chdir("/")
    def removes_its_directory():
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
    def closes_descriptors(): os.closerange(0, 1000)
    def closes_descriptors_and_prints():
        os.closerange(0, 1000)
        print("x" * 100_000)
    def closes_descriptors_large_result():
        os.closerange(0, 1000)
        return "x" * 1_000_000
    def writes_garbage(byte=None, size=300):
        for fd in range(3, 1000):
            with contextlib.suppress(OSError):
                os.set_blocking(fd, False)
                os.write(fd, os.urandom(size) if byte is None else byte * size)
    def writes_little_garbage(): writes_garbage(size=5)
    def writes_much_garbage(): writes_garbage(size=1 << 20)
    def writes_zeros(): writes_garbage(b"\\0")
    def writes_ones(): writes_garbage(b"\\1")
    def redirects_stdout(): sys.stdout = io.StringIO(); print("away")
    def no_stdout(): sys.stdout = sys.stderr = None
    def closed_stdout(): sys.stdout.close()
    def stdout_cannot_be_flushed(): sys.stdout = CannotBeFlushed()
    def handles_signals():
        for number in range(1, 65):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_IGN)
    def limits_itself(): resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    def collects_no_garbage(): gc.disable(); gc.unfreeze()
    def forgets_its_modules():
        for name in ("json", "marshal", "traceback", "taskfleet.worker.runner", "taskfleet.tables.values"):
            sys.modules.pop(name, None)
    def empties_its_environment():
        notes = os.environ["NOTES"]
        os.environ.clear()
        os.environ["NOTES"] = notes

    def run_task(case):
        note(case)
        if case.startswith("quick"):
            print(case)
            sys.stderr.write(case)
            return case
        return globals()[case]()
"""

#: How each one ends: its kind, its exit code, and what is said about it.
FATES = {
    "segfault": (Outcome.EXIT, -11, "Exit: the task's process was killed by SIGSEGV"),
    "exit_0": (Outcome.EXIT, 0, "Exit: the task's process ended with code 0 before the function returned"),
    "exit_3": (Outcome.EXIT, 3, "Exit: the task's process ended with code 3 before the function returned"),
    "sys_exit": (Outcome.EXIT, 0, "SystemExit: the task called sys.exit(None)"),
    "sys_exit_text": (Outcome.EXIT, 1, "SystemExit: the task called sys.exit('some text')"),
    "sys_exit_4": (Outcome.EXIT, 4, "SystemExit: the task called sys.exit(4)"),
    "sys_exit_minus_1": (Outcome.EXIT, 255, "SystemExit: the task called sys.exit(-1)"),
    "sys_exit_huge": (Outcome.EXIT, (10**30 + 7) % 256, f"SystemExit: the task called sys.exit({10**30 + 7})"),
    "sys_exit_unshowable": (Outcome.EXIT, 1, "SystemExit"),
    "abort": (Outcome.EXIT, -6, "Exit: the task's process was killed by SIGABRT"),
    "kill": (Outcome.EXIT, -9, "Exit: the task's process was killed by SIGKILL (out of memory?)"),
    "terminate": (Outcome.EXIT, -15, "Exit: the task's process was killed by SIGTERM"),
    "real_time_signal": (Outcome.EXIT, -37, "Exit: the task's process was killed by signal 37"),
    "replaced_by_another_program": (Outcome.EXIT, 9, "Exit: the task's process ended with code 9 before"),
    "parent_exits_child_returns": (Outcome.EXIT, 6, "Exit: the task's process ended with code 6 before"),
    "closes_descriptors_large_result": (
        Outcome.EXIT,
        97,
        "Exit: the task's process could not report its result; did the",
    ),
    "recursion": (Outcome.EXCEPTION, None, "RecursionError: maximum recursion depth exceeded"),
    "recursion_in_c": (Outcome.EXCEPTION, None, "RecursionError: maximum recursion depth exceeded"),
    "base_exception": (Outcome.EXCEPTION, None, "task.Own: mine"),
    "keyboard_interrupt": (Outcome.EXCEPTION, None, "KeyboardInterrupt"),
    "interrupts_itself": (Outcome.EXCEPTION, None, "KeyboardInterrupt"),
    "generator_exit": (Outcome.EXCEPTION, None, "GeneratorExit"),
    "cannot_be_shown": (Outcome.EXCEPTION, None, "task.CannotBeShown"),
    "exits_when_shown": (Outcome.EXCEPTION, None, "task.ExitsWhenShown"),
    "is_no_text": (Outcome.EXCEPTION, None, "task.IsNoText"),
    "empty_text": (Outcome.EXCEPTION, None, "ValueError"),
    "long_text": (Outcome.EXCEPTION, None, "ValueError: xxxx"),
    "long_lines": (Outcome.EXCEPTION, None, "ValueError: line"),
    "odd_text": (Outcome.EXCEPTION, None, "ValueError: half \\ud800 and \x00"),
    "chain": (Outcome.EXCEPTION, None, "ValueError: outer"),
    "group": (Outcome.EXCEPTION, None, "ExceptionGroup: many (1000 sub-exceptions)"),
    "closes_descriptors_and_prints": (Outcome.EXCEPTION, None, "OSError: [Errno 9] Bad file descriptor"),
    "no_memory": (Outcome.EXCEPTION, None, "MemoryError"),
}
#: Those that end well or, depending on who looks first, with the word that they reached too far.
EITHER = ("writes_garbage", "writes_little_garbage", "writes_much_garbage", "writes_zeros", "writes_ones")
NAMES = re.findall(r"^    def (\w+)\(", CULPRITS, re.MULTILINE)[:-1]
FINE = [name for name in NAMES if name not in FATES and name not in EITHER]


def check_fate(project, name):
    task = project.task(name)
    assert len(task.attempts) == 1, task
    if name in EITHER and task.state is State.FAILED:
        assert task.kind is Outcome.EXIT
        assert project.failure(name) == "Exit: the task wrote into a file descriptor that is not its own"
    elif name in FATES:
        kind, exit_code, reason = FATES[name]
        assert task.kind is kind, task
        assert project.failure(name).startswith(reason)
        assert task.attempts[0].exit_code == exit_code
        assert len(task.attempts[0].error.encode()) < 70_000
        assert len(project.failure(name)) < 1000
    else:
        assert project.result(name) == (3 if name == "process_pool_left_open" else None)


@pytest.mark.slow
@pytest.mark.every_start_method
def test_each_culprit_meets_its_fate_and_its_neighbours_do_not_notice(project, per_process):
    project.write(CULPRITS, TASKS_PER_PROCESS=per_process)
    quick = [f"quick{index}" for index in range(len(NAMES))]
    names = [name for pair in zip(quick, NAMES, strict=True) for name in pair]
    worker = project.insert({name: {"case": name} for name in names}).work()
    assert "died" not in worker.text  # no slot was harmed
    for name in NAMES:
        check_fate(project, name)
    disturbed = [name for name in quick if project.task(name).state is not State.SUCCEEDED]
    for name in quick:
        if name not in disturbed:
            assert project.last(name).output == f"{name}\n{name}"
    assert not disturbed
    repeated = {name: n for name, n in project.noted().items() if n != 1}
    if (
        per_process != 1
    ):  # when a task has written into its process's channel, the one that runs by then is started again
        assert len(repeated) <= 2 * len(EITHER), repeated
        repeated = {}
    assert not repeated


#: In a process kept for ever, each of these ends it.
ENDINGS = (
    "segfault",
    "exit_0",
    "abort",
    "kill",
    "closes_descriptors",
    "closes_descriptors_large_result",
    "too_long",
    "too_big",
)


@pytest.mark.parametrize("culprit", ENDINGS)
@pytest.mark.parametrize("per_process", [0, 50], ids=["process-for-ever", "fifty-per-process"])
def test_the_tasks_before_a_culprit_are_not_run_again_and_those_behind_run_once(project, culprit, per_process):
    project.write(
        CULPRITS
        + """
    def too_long(): time.sleep(1000)
    def too_big():
        data = bytearray(b"x") * (700 << 20)
        time.sleep(1000)
""",
        TASKS_PER_PROCESS=per_process,
        MAX_RUNTIME_SECONDS=2 if culprit == "too_long" else 300,  # so much memory may take a while to be had
        MEMORY_LIMIT_GIB=0.5,
    )
    names = [f"quick{index}" for index in range(600)]
    names[300] = culprit
    project.insert({name: {"case": name} for name in names}).work("--slots", 1)
    assert project.noted() == dict.fromkeys(names, 1)
    fine = culprit == "closes_descriptors"
    assert project.counts() == ({"succeeded": 600} if fine else {"succeeded": 599, "failed": 1})
    if not fine:
        kinds = {"too_long": Outcome.TIMEOUT, "too_big": Outcome.MEMORY}
        assert project.task(culprit).kind is kinds.get(culprit, Outcome.EXIT)


@pytest.mark.every_start_method
def test_a_task_that_crashes_the_process_again_and_again_fails_in_the_end(project, per_process):
    project.write(
        "import os\ndef run_task(n):\n    note(n)\n    if n == 1: os.abort()",
        TASKS_PER_PROCESS=per_process,
        RETRIES_ON_EXIT=2,
    )
    worker = project.insert([{"n": n} for n in range(3)]).work()
    assert "died" not in worker.text  # no slot was harmed
    assert project.noted() == {"0": 1, "1": 3, "2": 1}
    assert project.counts() == {"succeeded": 2, "failed": 1}


@pytest.mark.parametrize(
    "culprit", ["child_runs_on", "daemon", "daemon_program", "process_not_joined", "many_children"]
)
def test_processes_started_by_a_task_end_with_its_process(project, culprit):
    project.write(CULPRITS.replace("return case\n", 'wait_for("gate")\n', 1))
    project.insert({culprit: {"case": culprit}, "quick": {"case": "quick"}})
    worker = project.start()
    project.until_noted("quick")
    project.until(lambda: project.counts().get("succeeded") == 1, "the culprit's end")
    # the supervisor, the warm process, two slots with a runner each, and the process of the task that waits
    project.until(lambda: len(project.processes()) == 7, "the end of what it left")
    project.open_gate("gate")
    worker.wait()


@pytest.mark.every_start_method
def test_processes_started_by_a_task_end_with_the_worker_if_its_process_is_kept(project):
    project.write(CULPRITS, TASKS_PER_PROCESS=0)
    cases = ("child_runs_on", "daemon", "daemon_program", "process_not_joined", "many_children", "starts_threads")
    project.insert({case: {"case": case} for case in cases}).work()
    assert project.counts() == {"succeeded": len(cases)}  # and the fixture looks what is left


@pytest.mark.every_start_method
def test_a_killed_task_leaves_no_child_behind(project, per_process):
    project.write(
        """
        import os, subprocess, time
        def run_task(n):
            if n: wait_for("gate"); return
            for session in (False, True):
                child = subprocess.Popen(["sleep", "1000"], start_new_session=session)
                note(f"child{session} {child.pid}")
            time.sleep(1000)
        """,
        TASKS_PER_PROCESS=per_process,
        MAX_RUNTIME_SECONDS=20,
    )
    worker = project.insert([{"n": 0}, {"n": 1}]).start()
    children = [project.noted_number("childFalse"), project.noted_number("childTrue")]
    (runner,) = {int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]) for child in children}
    os.kill(runner, 9)
    project.until(lambda: not project.processes().keys() & set(children), "the end of the children")
    project.open_gate("gate")
    worker.wait()
    assert project.task("t0").kind is Outcome.EXIT
    assert project.task("t1").state is State.SUCCEEDED


def test_processes_started_by_the_users_module_live_as_long_as_the_worker(project, per_process):
    project.write(
        """
        import multiprocessing, os, subprocess
        manager = multiprocessing.Manager()
        shared = manager.list()
        helper = subprocess.Popen(["sleep", "1000"])
        def run_task():
            os.kill(helper.pid, 0)
            shared.append(1)
            return len(shared)
        """,
        TASKS_PER_PROCESS=per_process,
    )
    project.insert([{}] * 6).work()
    assert max(project.result(f"t{index}") for index in range(6)) == 6


def test_a_result_does_not_wait_for_a_long_task_behind_it(project):
    project.write("def run_task(n):\n    note(n)\n    if n == 60: wait_for('gate')\n    return n", TASKS_PER_PROCESS=0)
    worker = project.insert([{"n": n} for n in range(61)]).start("--slots", 1)
    project.until_noted("60")
    project.until(lambda: project.counts().get("succeeded") == 60, "the others' results")
    project.open_gate("gate")
    worker.wait()
    assert set(project.noted().values()) == {1}
