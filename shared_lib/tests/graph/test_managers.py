"""Functions with managers: settings, environments and workers of their own."""

import json
import os
import signal
import subprocess
import sys

import pytest
from taskfleet.errors import SettingsError
from taskfleet.settings.environment import environment_here

PIPELINE = """
import os

@app
def first(x): return x + 1

@app(manager="gpu")
def middle(x, seconds=0):
    note(f"middle {x}")
    return [x * 10, os.environ.get("COLOUR"), os.environ.get("SHADE")]

@app
def last(found): return [*found, os.environ.get("COLOUR"), os.environ.get("SHADE")]

with flow() as one:
    found = [last(middle(first(n))) for n in range(20)]
    mapped = middle.map(range(100, 1300))
"""


@pytest.fixture
def project(project):
    """A project with one manager, ``gpu``."""
    project.manager()
    return project


@pytest.fixture(autouse=True)
def _manager(monkeypatch):
    """Give projects a method that writes the files of a manager."""
    from shared_lib.tests.graph.conftest import GraphProject

    def manager(self, name="gpu", script=None, **settings):
        lines = [f"{key}={value}" for key, value in settings.items()]
        self.file(f"config/task.{name}.env", "\n".join([*lines, "export COLOUR=blue"]) + "\n")
        if script is not None:
            self.file(f"config/task.{name}.sh", script)
        return self

    monkeypatch.setattr(GraphProject, "manager", manager, raising=False)


def command(project, *words):
    """Run a command as a user types it; return its output."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "taskfleet", *words],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_workers_of_a_manager_have_its_environment(project):
    project.manager(script='export SHADE="dark $COLOUR"\nunset LANG\n')
    said = project.run(
        PIPELINE
        + "print(json.dumps([one.result() for one in found] + mapped.result()[:1]))\n".replace(
            "json", "__import__('json')"
        )
    )
    found = json.loads(said[said.index("[[") :].splitlines()[0])
    assert found == [[(n + 1) * 10, "blue", "dark blue", None, None] for n in range(20)] + [[1000, "blue", "dark blue"]]
    assert project.counts() == {"succeeded": 1260}


def test_what_only_the_environment_of_a_manager_can_import(project):
    project.file("gpu_only.py", "import os\nWORDS = os.environ['SHADE']\ndef words(x): return WORDS + x\n")
    project.file("task.py", "def plain(): return '!'\n")
    project.manager(script="export SHADE=dark\n")
    project.file("pure.py", "def words(x): import gpu_only; return gpu_only.words(x)\n")
    project.run("""
import task
import pure
with flow():
    assert app(pure.words, manager="gpu")(app(task.plain)()).result() == "dark!"
""")


def test_retries_limits_and_slots_are_those_of_the_manager(project):
    project.settings(SLOTS=3, RETRIES_ON_EXCEPTION=0)
    project.manager(SLOTS=1, RETRIES_ON_EXCEPTION=2, RETRY_DELAY_SECONDS=0, MAX_RUNTIME_SECONDS=0.5)
    project.run("""
import os, time

@app(manager="gpu")
def alone(n):
    os.close(os.open("lock", os.O_CREAT | os.O_EXCL))  # fails if another one runs
    time.sleep(0.01)
    os.unlink("lock")

@app(manager="gpu")
def fails(): note("with manager"); raise ValueError("bad")

@app(manager="gpu")
def hangs(): note("hangs"); time.sleep(600)

@app
def fails_too(): note("without"); raise ValueError("bad")

with flow() as one:
    done = alone.map(range(30))
    others = [fails(), fails_too(), hangs()]
done.result()
for one in others:
    one.exception()
""")
    assert project.noted() == {"with manager": 3, "without": 1, "hangs": 1}
    assert project.counts() == {"succeeded": 30, "failed": 3}


def test_a_manager_without_a_file(project):
    said = project.run(
        """
@app(manager="cluster")
def one(): pass
with flow():
    one()
""",
        code=1,
    )
    path = project.folder / "config" / "task.cluster.env"
    assert f"Error: There is no manager 'cluster', because {path} does not exist. Create this file" in said
    assert "Traceback" not in said
    assert not project.ledger_path.exists()
    path.write_text("")
    project.run("""
@app(manager="cluster")
def one(): pass
with flow():
    one().result()
""")


@pytest.mark.parametrize("name", ["default", "events", "a-dead", "a/b", "", "1", "x" * 32])
def test_names_that_a_manager_cannot_have(project, name):
    with project.calls("@app(manager='gpu')\ndef f(): pass\n") as (_, flow):
        if name:
            with pytest.raises(SettingsError, match="cannot have the name"):
                flow.configuration.of_manager(name)
        else:
            assert flow.configuration.of_manager(name) == flow.configuration


def test_launch_worker_runs_the_tasks_of_all_managers(project):
    project.run(PIPELINE)
    assert project.counts() == {"pending": 1220, "waiting": 40}
    worker = project.work("--slots", "1")
    assert worker.text.count("Worker for job job") == worker.text.count("1 concurrent task,") >= 2
    assert worker.text.count("Worker for job job, manager gpu: ") >= 1
    assert worker.text.count("JOB COMPLETE") == 1
    assert project.counts() == {"succeeded": 1260}
    by_manager = project.ask(
        lambda database: database.rows(
            "SELECT count(*), count(DISTINCT worker.manager_id), max(worker.manager_id = function.manager_id) FROM attempt "
            "JOIN worker USING (worker_id) JOIN task ON task.seq = key / 1000 JOIN function USING (function_id)"
        )
    )
    assert by_manager == [(1260, 2, 1)]
    assert (
        project.ask(
            lambda database: database.value(
                "SELECT count(*) FROM attempt JOIN worker USING (worker_id) JOIN task ON task.seq = key / 1000 "
                "JOIN function USING (function_id) WHERE worker.manager_id <> function.manager_id"
            )
        )
        == 0
    )


def test_a_job_in_which_all_functions_have_managers(project):
    """What TASK_FUNCTION names is not there, and nobody needs it."""
    project.run("""
@app(manager="gpu")
def one(n): return n
with flow():
    one(one(one(1)))
""")
    project.work()
    assert project.counts() == {"succeeded": 3}


def test_launch_worker_for_one_manager(project):
    """It ends when nothing is left for it; what others have to do meanwhile is said with the command that does it."""
    project.run(PIPELINE)
    text = project.work("--manager", "gpu").text
    assert "JOB NOT COMPLETE" in text
    assert "Next: uv run poe launch_worker  (to continue)" in text
    assert project.counts() == {"succeeded": 1200, "pending": 20, "waiting": 40}
    project.settings(KEEP_WAITING="true")
    waiting = project.start("--manager", "gpu")
    project.until(lambda: "Worker for job job, manager gpu" in waiting.text)
    project.until(lambda: "manager gpu)" in command(project, "status"), "the worker's line")
    said = "20 tasks of manager default can run, and it has no worker: uv run poe launch_worker --manager default"
    assert said in command(project, "status")
    assert said in command(project, "explain")
    command(project, "pause")
    assert "has no worker" not in command(project, "status")
    command(project, "resume")
    task_id = project.ask(
        lambda database: database.value("SELECT id FROM task JOIN state USING (seq) WHERE state = 1 LIMIT 1")
    )
    assert f"Task {task_id} is pending. {said}" in command(project, "explain", task_id)
    assert json.loads(command(project, "status", "--json"))["managers_without_workers"] == {"default": 20}
    project.settings(KEEP_WAITING="false")
    project.work("--manager", "default")
    assert project.counts() == {"succeeded": 1260}
    assert json.loads(command(project, "status", "--json"))["managers_without_workers"] == {}
    waiting.kill(signal.SIGTERM)
    waiting.wait(130)


def test_a_worker_waits_while_other_managers_have_to_run_what_its_tasks_wait_for(project):
    project.run("""
@app(manager="gpu")
def slow(n): note("slow"); wait_for("gate")
@app
def after(x): pass
with flow():
    [after(slow(n)) for n in range(8)]
""")
    other = project.start("--manager", "gpu")
    project.until_noted("slow")
    mine = project.start("--manager", "default")
    project.until(lambda: "Worker for job" in mine.text)
    project.open_gate("gate")
    other.wait()
    mine.wait()
    assert project.counts() == {"succeeded": 16}


BLOCKED = """
@app(manager="gpu")
def slow(n): note(f"slow {n}"); wait_for("gate")
@app
def quick(n): note(f"quick {n}"); wait_for("gate")
with flow():
    slow.map(range(6))
    quick.map(range(6))
"""


def begun(project):
    project.until(lambda: len([one for one in project.noted() if one.startswith("slow")]) >= 2, "tasks of gpu")
    project.until(lambda: len([one for one in project.noted() if one.startswith("quick")]) >= 2, "other tasks")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_group", [True, False])
def test_a_signal_stops_all_workers_after_their_tasks(project, number, is_group):
    """A terminal sends Ctrl-C to the whole group; no worker gets it twice, which would return its tasks to the queue."""
    project.run(BLOCKED)
    worker = project.start()
    begun(project)
    (os.killpg if is_group else os.kill)(worker.pid, number)
    project.until(lambda: worker.text.count("Stopping") == 2)
    project.open_gate("gate")
    worker.wait(130)
    assert project.counts() == {"succeeded": 4, "pending": 8}
    assert project.work().text.count("JOB COMPLETE") == 1


def test_a_second_ctrl_c_returns_running_tasks(project):
    project.run(BLOCKED)
    worker = project.start()
    begun(project)
    os.killpg(worker.pid, signal.SIGINT)
    project.until(lambda: worker.text.count("Stopping") == 2)
    os.killpg(worker.pid, signal.SIGINT)
    worker.wait(130)
    assert project.counts() == {"pending": 12}


def test_kill_of_launch_worker_leaves_no_worker_behind(project):
    project.run(BLOCKED)
    worker = project.start()
    begun(project)
    worker.kill()
    worker.wait(-signal.SIGKILL)
    project.until(lambda: not project.processes(), "the end of all processes")
    project.open_gate("gate")
    project.work()
    assert project.counts() == {"succeeded": 12}


@pytest.mark.parametrize("manager", ["gpu", ""])
def test_a_worker_that_is_killed_is_replaced(project, manager):
    """The tasks of a dead worker are retried as its manager's settings say, whichever worker releases them."""
    project.settings(RETRIES_ON_LOST=5)
    project.manager(RETRIES_ON_LOST=5)
    project.run(BLOCKED)
    worker = project.start()
    begun(project)
    pid = project.ask(
        lambda database: database.value(
            "SELECT pid FROM worker LEFT JOIN manager USING (manager_id) WHERE coalesce(name, '') = ?", (manager,)
        )
    )
    os.kill(pid, signal.SIGKILL)
    project.open_gate("gate")
    worker.wait()
    assert project.counts() == {"succeeded": 12}
    assert project.tally("lost") >= 2


def test_lost_tasks_have_the_retries_of_their_manager(project):
    """No retries of lost tasks for gpu, whose worker dies; the worker that finds that out has others."""
    project.manager(RETRIES_ON_LOST=0)
    project.run(BLOCKED)
    worker = project.start("--manager", "gpu")
    project.until(lambda: len([one for one in project.noted() if one.startswith("slow")]) >= 2, "tasks of gpu")
    running = project.counts()["running"]
    worker.kill()
    worker.wait(-signal.SIGKILL)
    project.open_gate("gate")
    project.work("--manager", "default")
    assert project.counts() == {"succeeded": 6, "failed": running} | ({"pending": 6 - running} if running < 6 else {})


def test_a_manager_whose_script_fails(project):
    project.manager(script="echo no module torch >&2\nfalse\necho never\n")
    project.run(PIPELINE)
    worker = project.work(code=1)
    script = project.folder / "config" / "task.gpu.sh"
    assert f"error: {script} failed with code 1: no module torch" in worker.text
    assert "error: The worker of manager gpu ended with an error, see above." in worker.text
    assert "never" not in worker.text
    assert "Traceback" not in worker.text
    said = project.run(PIPELINE + "mapped.result()\n", code=1)
    assert f"Error: {script} failed with code 1" in said
    assert "Error: The worker of manager gpu ended with an error, see above." in said
    project.manager(script="")
    project.work()
    assert project.counts() == {"succeeded": 1260}


def test_a_manager_whose_script_calls_exit(project):
    """Its tasks do not run in an empty environment."""
    project.manager(script="export SHADE=dark\nexit 0\n")
    project.run(PIPELINE)
    worker = project.work("--manager", "gpu", code=1)
    script = project.folder / "config" / "task.gpu.sh"
    assert f"error: {script} calls exit, so that its variables are not known" in worker.text
    assert "Traceback" not in worker.text
    project.manager(script="export SHADE=dark\nreturn 0\n")
    project.work()
    assert project.counts() == {"succeeded": 1260}


def test_the_script_of_a_manager_may_start_a_server(project):
    """The worker begins while it runs."""
    project.manager(script="sleep 600 &\nexport SERVER=$!\n")
    project.run("""
import os
@app(manager="gpu")
def one(): os.kill(int(os.environ["SERVER"]), 9)
with flow():
    one()
""")
    project.work()
    assert project.counts() == {"succeeded": 1}


def test_launch_worker_ends_while_the_job_is_paused(project):
    """Before it begins, and while tasks run, which finish."""
    project.run(BLOCKED)
    command(project, "pause")
    assert "JOB NOT COMPLETE" in project.work().text
    assert project.counts() == {"pending": 12}
    command(project, "resume")
    worker = project.start()
    begun(project)
    command(project, "pause")
    project.until(lambda: worker.text.count("The job is paused: no task starts") == 2)
    project.open_gate("gate")
    worker.wait()
    assert project.counts().keys() == {"succeeded", "pending"}
    command(project, "resume")
    project.work()
    assert project.counts() == {"succeeded": 12}


def test_max_tasks_is_for_each_worker(project):
    project.run(PIPELINE)
    assert "JOB NOT COMPLETE" in project.work("--max-tasks", 3).text
    assert project.counts()["succeeded"] == 6


def test_functions_around_tasks_in_run_py(project):
    project.file(
        "run.py",
        "from notes import note\nfrom taskfleet import launch_worker\n"
        "if __name__ == '__main__':\n    launch_worker(after_fn=lambda lease: note('after'))\n",
    )
    project.run(PIPELINE)
    project.start_script("run.py").wait()
    assert project.noted()["after"] == 1260
    project.file("other.py", (project.folder / "run.py").read_text())
    said = project.start_script("other.py").wait(2).text
    assert "choose one manager: --manager NAME" in said


def test_another_manager_runs_what_has_not_begun(project):
    project.manager("cpu")
    project.run(PIPELINE)
    project.work("--manager", "gpu", "--max-tasks", "10")
    project.run(PIPELINE.replace("gpu", "cpu"))
    project.work("--manager", "gpu")
    assert project.counts() == {"succeeded": 10, "pending": 1210, "waiting": 40}
    project.work("--manager", "cpu")
    assert project.counts() == {"succeeded": 1200, "pending": 20, "waiting": 40}
    project.run(PIPELINE.replace('(manager="gpu")', ""))
    project.work("--manager", "default")
    assert project.counts() == {"succeeded": 1260}


def test_the_files_of_a_manager_override_the_others_and_are_overridden(project):
    project.settings(SLOTS=2, MAX_RUNTIME_SECONDS=60, RETRIES_ON_EXIT=3)
    project.manager(SLOTS=7, MAX_RUNTIME_SECONDS="", OUTPUT_PATH="out")
    with project.calls("@app\ndef f(): pass\n", retries_on_exit=4) as (_, flow):
        mine, own = flow.configuration.settings, flow.configuration.of_manager("gpu").settings
    assert (mine.slots, mine.max_runtime_seconds, mine.retries_on_exit, mine.output_path) == (2, 60, 4, None)
    assert (own.slots, own.max_runtime_seconds, own.retries_on_exit, own.output_path) == (7, None, 4, "out")


def test_the_file_of_a_manager_overrides_what_other_files_gave_the_environment(project, monkeypatch):
    """Of processes that a command starts, which have its settings in their environment."""
    project.settings(SLOTS=2, MAX_RUNTIME_SECONDS=60, RETRIES_ON_EXIT=3, RETRIES_ON_LOST=5)
    project.manager(SLOTS=7, MAX_RUNTIME_SECONDS="", RETRIES_ON_EXIT=8, RETRIES_ON_LOST=0)
    monkeypatch.setenv("RETRIES_ON_LOST", "6")
    text = "@app\ndef f(): pass\n"
    with project.calls(text, retries_on_exit=4) as (_, flow):
        mine, own = flow.configuration.settings, flow.configuration.of_manager("gpu").settings
        environment = environment_here(flow.configuration)
    assert (own.slots, own.max_runtime_seconds, own.retries_on_exit, own.retries_on_lost) == (7, None, 4, 6)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with project.calls(text) as (_, flow):
        assert flow.configuration.settings == mine
        assert flow.configuration.of_manager("gpu").settings == own
        assert environment_here(flow.configuration) == environment


def test_machines_of_a_local_pool_have_the_settings_of_each_manager(project):
    project.settings(SLOTS=2, RETRIES_ON_EXCEPTION=0)
    project.manager(SLOTS=1, RETRIES_ON_EXCEPTION=2, RETRY_DELAY_SECONDS=0)
    project.run("""
@app(manager="gpu")
def fails(): note("with manager"); raise ValueError("bad")
@app
def fails_too(): note("without"); raise ValueError("bad")
with flow():
    fails(), fails_too()
""")
    project.start("--provider", "local", "--machines", "1", "--yes", command=("-m", "taskfleet", "deploy_pool")).wait()
    assert project.noted() == {"with manager": 3, "without": 1}
    workers = project.ask(
        lambda database: database.rows("SELECT DISTINCT manager_id, slots FROM worker WHERE manager_id > 0")
    )
    assert workers == [(1, 1)]


def test_settings_that_are_the_same_for_all_managers(project):
    project.manager(
        JOB_ID="other", QUEUE_URL="sqs://x", LEDGER_PATH="x.db", SLOT=1, INSTANCE_TYPES="x", SLOTS="many", SAVE=1
    )
    with project.calls("@app\ndef f(): pass\n") as (_, flow), pytest.raises(SettingsError) as caught:
        flow.configuration.of_manager("gpu")
    path = project.folder / "config" / "task.gpu.env"
    for line, name in enumerate(("JOB_ID", "QUEUE_URL", "LEDGER_PATH"), start=1):
        assert f"{path}, line {line}: {name} is the same for all managers; remove it here" in str(caught.value)
    assert f"{path}, line 4: unknown setting SLOT. Did you mean SLOTS?" in str(caught.value)
    assert "SLOTS='many' is invalid" in str(caught.value)
