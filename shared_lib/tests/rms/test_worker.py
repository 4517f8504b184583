"""Scripts for rms-cloud-tasks, changed in their import only, as processes of their own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from taskfleet.context import TaskContext
from taskfleet.rms import WorkerData

RMS = json.loads((Path(__file__).with_name("rms_cloud_tasks_0.5.0.json")).read_text())
PATIENCE_SECONDS = 120
MAIN = """

async def main():
    worker = Worker(process_task, args=sys.argv[1:])
    await worker.start()
    print("after start")

if __name__ == "__main__":
    asyncio.run(main())
"""
HEAD = "import argparse, asyncio, os, sys, time\nfrom taskfleet.rms import Worker, WorkerData\n"
TWO = [{"task_id": "one", "data": {"n": 1}}, {"task_id": "two", "data": {"n": 2}}]
FACTS = """
def process_task(task_id, task_data, worker_data):
    known = {name: getattr(worker_data, name) for name in dir(worker_data) if not name.startswith("_")}
    for name in ("shutdown_event", "termination_event"):
        known[name] = known[name].is_set()
    known["args"] = vars(known["args"])
    return False, known
"""


class Script:
    """A script in one folder, run in another one."""

    def __init__(self, folder):
        self.scripts, self.here = folder / "scripts", folder / "here"
        self.scripts.mkdir()
        self.here.mkdir()
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        self.environment = kept

    def write(self, body, *, main=MAIN, name="my_worker.py"):
        (self.scripts / name).write_text(HEAD + textwrap.dedent(body) + main)
        self.path = self.scripts / name
        return self

    def tasks(self, rows, name="tasks.json"):
        (self.here / name).write_text(json.dumps(rows))
        return self

    def start(self, *words, **environment):
        return subprocess.Popen(
            [sys.executable, str(self.path), *words],
            cwd=self.here,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, code=0, **environment):
        """Run it to its end; return what it printed to standard output and to standard error."""
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == code, out + err
        return out, err

    def events(self, name="events.log"):
        path = self.here / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def results(self, name="events.log"):
        return {one["task_id"]: one["result"] for one in self.events(name) if one["event_type"] == "task_completed"}


@pytest.fixture
def script(tmp_path):
    return Script(tmp_path)


def test_a_script_runs_the_tasks_of_a_file_in_the_users_folder_and_writes_events(script):
    script.write(
        """
        def process_task(name, data, worker):  # called by position
            print("printed by", name)
            if data["n"] == 2:
                raise ValueError("bad input")
            return False, [data["n"], os.getcwd()]
        """
    ).tasks(TWO)
    out, err = script.run("--task-file", "tasks.json")
    assert script.results() == {"one": [1, str(script.here)]}
    assert [one["event_type"] for one in script.events()] == ["task_completed", "task_exception"]
    assert {"printed by one", "printed by two", "after start"} <= set(out.splitlines())
    assert "two: ValueError: bad input" in err
    assert sorted(path.name for path in script.here.iterdir()) == ["events.log", "tasks.json"]


def test_every_run_is_a_new_one_and_appends_its_events(script):
    script.write("def process_task(task_id, task_data, worker_data):\n    return False, 1").tasks(TWO)
    for _ in range(2):
        script.run("--task-file", "tasks.json", "--event-log-file", "log.jsonl")
    assert [one["task_id"] for one in script.events("log.jsonl")] == ["one", "two", "one", "two"]
    script.run("--task-file", "tasks.json", "--no-event-log-to-file")
    assert not (script.here / "events.log").exists()


def test_a_function_of_tasks_replaces_the_file_and_is_read_as_far_as_needed(script):
    script.write(
        """
        import itertools

        def tasks():
            for number in itertools.count():
                yield {"task_id": f"t{number}", "data": {"n": number}}

        def process_task(task_id, task_data, worker_data):
            return False, task_data["n"]

        if __name__ == "__main__":
            asyncio.run(Worker(process_task, task_source=tasks, args=["--tasks-to-skip", "2", "--max-num-tasks", "3"]).start())
        """,
        main="",
    ).run()
    assert script.results() == {"t2": 2, "t3": 3, "t4": 4}


def test_a_path_of_tasks_overrides_the_option(script):
    script.write(
        """
        from pathlib import Path

        def process_task(task_id, task_data, worker_data):
            return False, None

        if __name__ == "__main__":
            asyncio.run(Worker(process_task, task_source=Path("mine.yml"), args=["--task-file", "absent.json"]).start())
        """,
        main="",
    )
    (script.here / "mine.yml").write_text("- task_id: a\n  data:\n    x: 1\n- task_id: b\n  data: {}\n")
    script.run()
    assert script.results() == {"a": {}, "b": {}}


def test_a_parser_of_the_script_keeps_its_options_and_types(script):
    script.write(
        """
        class Mode:
            def __init__(self, text):
                self.text = text

        def process_task(task_id, task_data, worker_data):
            args = worker_data.args
            assert isinstance(args, argparse.Namespace) and isinstance(args.mode, Mode)
            return False, [args.scale, args.mode.text, args.max_runtime, args.task_file, args.price]

        if __name__ == "__main__":
            parser = argparse.ArgumentParser()
            parser.add_argument("--scale", type=int)
            parser.add_argument("--mode", type=Mode)
            asyncio.run(Worker(process_task, args=sys.argv[1:], argparser=parser).start())
        """,
        main="",
    ).tasks(TWO[:1])
    script.run("--task-file", "tasks.json", "--scale", "3", "--mode", "fast", "--price", "0.5")
    assert script.results() == {"one": [3, "fast", None, "tasks.json", 0.5]}
    _, err = script.run("--task-file", "tasks.json", "--unknown", code=2)
    assert "unrecognized arguments: --unknown" in err


def test_every_public_attribute_of_worker_data_is_there(script):
    assert len(RMS["worker_data"]) == 31
    script.write(FACTS).tasks(TWO[:1])
    script.run("--task-file", "tasks.json")
    [found] = script.results().values()
    assert set(found) == set(RMS["worker_data"])
    assert found.pop("args") == dict.fromkeys(found_options()) | {"task_file": "tasks.json", "verbose": False}
    assert found.pop("num_cpus") == os.cpu_count()
    assert found == {
        **dict.fromkeys(("provider", "project_id", "job_id", "queue_name", "event_log_queue_name", "instance_type")),
        **dict.fromkeys(("memory_gb", "local_ssd_gb", "boot_disk_gb", "is_spot", "price_per_hour")),
        **dict.fromkeys(("max_memory_allowed_per_task", "simulate_spot_termination_after")),
        "simulate_spot_termination_delay": None,
        "exactly_once_queue": False,
        "event_log_to_queue": False,
        "event_log_to_file": True,
        "event_log_file": str(script.here / "events.log"),
        "keepalive_interval": 60.0,
        "num_simultaneous_tasks": 1,
        "max_runtime": 3600,
        "shutdown_grace_period": 30,
        **dict.fromkeys(("retry_on_exit", "retry_on_exception", "retry_on_timeout"), False),
        **dict.fromkeys(("shutdown_event", "termination_event"), False),
        **dict.fromkeys(("received_shutdown_request", "received_termination_notice"), False),
    }
    assert set(RMS["worker_data"]) == {name for name in dir(WorkerData()) if not name.startswith("_")}


def found_options():
    """The names of the options in the parsed command line."""
    names = {one.removeprefix("--").replace("-", "_") for one in RMS["worker_options"]}
    return {one for one in names if not one.startswith("no_")} | {"verbose"}


OPTIONS = (
    "--provider gcp --project-id proj --job-id my-job --exactly-once-queue --keepalive-interval 7 --instance-type n2-standard-4 "
    "--num-cpus 4 --memory 16 --local-ssd 375 --boot-disk 20.5 --is-spot --price 0.04 --num-simultaneous-tasks 3 --max-runtime 90 "
    "--max-memory-allowed-per-task 2.5 --shutdown-grace-period 5 --retry-on-exit --retry-on-exception --no-retry-on-timeout "
    "--simulate-spot-termination-after 900 --simulate-spot-termination-delay 9"
)
VARIABLES = {
    "PROVIDER": "gcp",
    "PROJECT_ID": "proj",
    "JOB_ID": "my-job",
    "EXACTLY_ONCE_QUEUE": "1",
    "KEEPALIVE_INTERVAL": "7",
    "INSTANCE_TYPE": "n2-standard-4",
    "INSTANCE_NUM_VCPUS": "4",
    "INSTANCE_MEM_GB": "16",
    "INSTANCE_SSD_GB": "375",
    "INSTANCE_BOOT_DISK_GB": "20.5",
    "INSTANCE_IS_SPOT": "True",
    "INSTANCE_PRICE": "0.04",
    "NUM_TASKS_PER_INSTANCE": "3",
    "MAX_RUNTIME": "90",
    "MAX_MEMORY_ALLOWED_PER_TASK": "2.5",
    "SHUTDOWN_GRACE_PERIOD": "5",
    "RETRY_ON_EXIT": "true",
    "RETRY_ON_EXCEPTION": "1",
    "RETRY_ON_TIMEOUT": "None",
    "SIMULATE_SPOT_TERMINATION_AFTER": "900",
    "SIMULATE_SPOT_TERMINATION_DELAY": "9",
    "TASK_FILE": "tasks.json",
}


@pytest.mark.parametrize("way", ["options", "variables"])
def test_options_and_variables_reach_the_tasks(script, way):
    script.write(FACTS).tasks(TWO[:1])
    if way == "options":
        script.run("--task-file", "tasks.json", *OPTIONS.split())
    else:
        script.run(**{f"RMS_CLOUD_TASKS_{name}": value for name, value in VARIABLES.items()})
    [found] = script.results().values()
    expected = {
        "provider": "GCP",
        "project_id": "proj",
        "job_id": "my-job",
        "queue_name": "my-job",
        "exactly_once_queue": True,
        "keepalive_interval": 7.0,
        "instance_type": "n2-standard-4",
        "num_cpus": 4,
        "memory_gb": 16.0,
        "local_ssd_gb": 375.0,
        "boot_disk_gb": 20.5,
        "is_spot": True,
        "price_per_hour": 0.04,
        "num_simultaneous_tasks": 3,
        "max_runtime": 90,
        "max_memory_allowed_per_task": 2.5,
        "shutdown_grace_period": 5,
        "retry_on_exit": True,
        "retry_on_exception": True,
        "retry_on_timeout": False,
        "simulate_spot_termination_after": 900.0,
        "simulate_spot_termination_delay": 9.0,
    }
    assert {name: found[name] for name in expected} == expected


def test_retries_follow_the_switches(script):
    script.write(
        """
        from pathlib import Path

        def process_task(task_id, task_data, worker_data):
            tries = Path(f"tries-{task_id}")
            n = int(tries.read_text()) + 1 if tries.exists() else 1
            tries.write_text(str(n))
            if n == 1:
                os._exit(3) if task_id == "one" else sys.stdout.write("will ask again")
                return True, "again"
            return False, n
        """
    ).tasks(TWO)
    script.run("--task-file", "tasks.json", "--retry-on-exit", RETRY_DELAY_SECONDS="0.01")
    assert script.results() == {"one": 2, "two": 2}
    for path in script.here.glob("tries-*"):
        path.unlink()
    script.run("--task-file", "tasks.json", "--event-log-file", "second.log", RETRY_DELAY_SECONDS="0.01")
    assert script.results("second.log") == {"two": 2}
    [exited] = [one for one in script.events("second.log") if one["task_id"] == "one"]
    assert (exited["event_type"], exited["retry"], exited["exit_code"]) == ("task_exited", False, 3)


def test_ctrl_c_reaches_running_tasks_as_the_shutdown_event(script):
    script.write(
        """
        from pathlib import Path

        def process_task(task_id, task_data, worker_data):
            Path(f"began-{task_id}").touch()
            assert worker_data.shutdown_event.wait(100)
            return False, worker_data.received_shutdown_request
        """
    ).tasks(TWO)
    process = script.start("--task-file", "tasks.json", "--shutdown-grace-period", "100")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (script.here / "began-one").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, out + err
    assert script.results() == {"one": True}


def test_a_termination_notice_is_the_termination_event(script):
    script.write(
        """
        def process_task(task_id, task_data, worker_data):
            assert worker_data.termination_event.wait(100)
            return False, worker_data.received_termination_notice
        """
    ).tasks(TWO[:1])
    for seconds in (1, 10, 60):  # the notice must come after the start of the task
        words = f"--simulate-spot-termination-after {seconds} --simulate-spot-termination-delay 100".split()
        process = script.start("--task-file", "tasks.json", *words)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == (0 if script.results() else 130), out + err
        if script.results():
            break
    assert script.results() == {"one": True}


@pytest.mark.parametrize(
    ("body", "main", "said"),
    [
        ("process_task = lambda task_id, task_data, worker_data: (False, 1)", MAIN, "at the top level of a module"),
        ("def process_task(task_id, task_data, worker_data): return False, 1", MAIN, "There are no tasks"),
        (
            "def process_task(task_id, task_data, worker_data): return False, 1\n"
            "asyncio.run(Worker(process_task, args=['--task-file', 'tasks.json']).start())",
            "",
            "if __name__ == '__main__':",
        ),
    ],
    ids=["lambda", "no tasks", "no guard"],
)
def test_mistakes_are_one_message(script, body, main, said):
    words = ["--task-file", "tasks.json"] if "lambda" in body else []
    process = script.write(body, main=main).tasks(TWO).start(*words)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode in (1, 2), out + err
    assert said in err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1


def test_a_script_is_a_worker_of_the_job_of_its_project(script):
    script.write(
        "def process_task(task_id, task_data, worker_data):\n    return False, [worker_data.job_id, worker_data.max_runtime]"
    )
    (script.scripts / "config").mkdir()
    (script.scripts / "config" / "task.env").write_text(
        f"JOB_ID=shared\nTASK_FUNCTION=my_worker:process_task\nTASK_TABLE={script.here}/tasks.json\n"
    )
    script.tasks(TWO)
    command = [sys.executable, "-m", "taskfleet"]
    subprocess.run(
        [*command, "insert_tasks"], cwd=script.scripts, env=script.environment, check=True, capture_output=True
    )
    script.run("--max-runtime", "77")
    subprocess.run(
        [*command, "results", "-o", "r.jsonl"],
        cwd=script.scripts,
        env=script.environment,
        check=True,
        capture_output=True,
    )
    [path] = script.scripts.parent.rglob("r.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["result"] for row in rows] == [["shared", 77.0]] * 2
    out, _ = script.run()
    assert "after start" in out


def test_worker_data_of_a_functions_own_test_has_the_defaults():
    data = WorkerData()
    assert (data.args, data.provider, data.is_spot, data.max_runtime, data.retry_on_exit) == (
        None,
        None,
        False,
        3600,
        False,
    )
    assert not data.received_shutdown_request
    assert not data.received_termination_notice
    of_test = WorkerData(TaskContext.for_test())
    assert of_test.args.rest == []
    assert not of_test.shutdown_event.wait(0)
