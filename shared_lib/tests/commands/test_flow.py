"""``poe flow`` and ``poe graph``, as a user types them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from taskfleet.graph.layout import arrange, layers_of
from taskfleet.ledger.database import create

FLOW = """
import sys
from taskfleet.graph import app, flow, succeeded
import work

load, fit, pick = app(work.load), app(work.fit), app(work.pick)
with flow("stars"):
    fits = fit.map(load.map(seed=range(int(sys.argv[1]) if sys.argv[1:] else 4)))
    best, some = pick(fits), pick(succeeded(fits))
    print("waiting")
    print("best", best.result(), some.result())
"""
WORK = """
def load(seed):
    if seed == BAD:
        raise ValueError(f"no data for {seed}")
    return seed

def fit(value):
    return value * 10

def pick(values):
    return max(values)
"""


@pytest.fixture
def script(project):
    """A project with a script, and a function that runs a command in it as a process."""
    (project / "flow.py").write_text(FLOW)
    (project / "work.py").write_text("BAD = None\n" + WORK)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words, **options):
        command = [sys.executable, "-P", "-m", "taskfleet", *words]
        done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, timeout=120, **options)
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)

    run.project, run.environ = project, environ
    return run


@pytest.mark.parametrize("has_empty_ledger", [False, True])
def test_commands_about_a_job_without_tasks_name_the_jobs_that_have_some(script, has_empty_ledger):
    """Not that of another project, nor files that are no ledgers."""
    assert "add --job-id" not in script("status").err
    assert script("flow").code == 0
    (script.project / "jobs" / "notes.db").write_text("no ledger")
    create(script.project / "jobs" / "copy.db", job_id="copied", project=script.project, now=0.0).close()
    shutil.copy(script.project / "jobs" / "stars.db", script.project / "jobs" / "renamed.db")
    if has_empty_ledger:
        create(script.project / "jobs" / "sums.db", job_id="sums", project=script.project, now=0.0).close()
    for command in ("status", "graph", "tasks", "explain", "launch_worker"):
        answer = script(command)
        text = answer.out + answer.err
        is_about_tasks = has_empty_ledger and command not in ("status", "graph")
        assert (
            "This project has tasks in the job stars: add --job-id stars to the command." in text
        ) != is_about_tasks, text
    assert "work:pick" in script("graph", "--job-id", "stars").out
    assert "add --job-id" not in script("status", "--job-id", "stars").out
    shutil.move(script.project / "jobs" / "stars.db", script.project / "jobs" / "elsewhere")
    assert "add --job-id" not in script("status").err


def counts(script):
    return {
        word: n for word, n in json.loads(script("status", "--job-id", "stars", "--json").out)["counts"].items() if n
    }


def files(project):
    return {path.name for path in project.iterdir() if path.name != "__pycache__"}


def test_the_script_of_the_project_is_run(script):
    before = files(script.project)
    answer = script("flow", "--dry-run")
    assert answer.code == 0, answer.err
    lines = [line.split() for line in answer.out.splitlines()]
    assert "Job stars: 10 tasks would be inserted." in answer.out
    assert ["work:load", "4", "0"] in lines
    assert ["work:pick", "2", "0"] in lines
    assert "ended where it needs 1 result that is not there yet" in answer.out
    assert files(script.project) == before

    answer = script("flow", "--", "3")
    assert (answer.code, "best 20 20" in answer.out) == (0, True), answer.err
    assert counts(script) == {"succeeded": 8}

    answer = script("flow", "--dry-run", "--", "5")
    lines = [line.split() for line in answer.out.splitlines()]
    assert "Job stars: 6 tasks would be inserted." in answer.out
    assert ["work:load", "2", "3"] in lines
    assert counts(script) == {"succeeded": 8}

    answer = script("flow", "--dry-run", "--", "3")  # every result is there
    assert "best 20 20" in answer.out
    assert "Job stars: 0 tasks would be inserted." in answer.out
    assert "ended where" not in answer.out


def test_a_dry_run_names_changed_code_and_keeps_everything(script):
    script("flow")
    (script.project / "work.py").write_text("BAD = None\n" + WORK.replace("value * 10", "value * 11"))
    answer = script("flow", "--dry-run", "--on-change", "rerun")
    assert "fit: 4 tasks done by other code; fit changed" in answer.err
    assert "4 tasks are run again" in answer.err
    assert "ended where it needs 1 result" in answer.out
    assert "results are kept" in script("flow", "--dry-run").err
    assert counts(script) == {"succeeded": 10}
    answer = script("flow", "--on-change", "rerun")
    assert (answer.code, "best 33 33" in answer.out) == (0, True), answer.err


def test_failed_tasks_are_exit_code_3(script):
    (script.project / "work.py").write_text("BAD = 1\n" + WORK)
    answer = script("flow")
    assert answer.code == 3
    assert "ValueError: no data for 1" in answer.err
    assert "script_run.py" not in answer.err
    assert re.search(r"Job stars: \d+ tasks succeeded, \d failed, \d left", answer.err)
    assert "poe status --job-id stars" in answer.err


def test_tasks_that_are_left_are_exit_code_5(script):
    (script.project / "flow.py").write_text(FLOW.replace("print(", "str(").replace("best.result(), some.result()", ""))
    answer = script("flow")
    assert answer.code == 5, answer.err
    assert "Job stars: 0 tasks succeeded, 0 failed, 10 left." in answer.err
    assert "poe launch_worker --job-id stars" in answer.err


def test_settings_in_flags_hold_for_the_script(script):
    (script.project / "flow.py").write_text(
        "from taskfleet.graph import flow\nprint('slots', flow('a').configuration.settings.slots)\n"
    )
    assert "slots 7" in script("flow", "--slots", "7").out
    (script.project / "other.env").write_text("SLOTS=3\n")
    assert "slots 3" in script("flow", "-e", "other.env").out
    (script.project / "config" / "task.gpu.env").write_text("SLOTS=5\n")
    flow = script.project / "flow.py"
    flow.write_text(flow.read_text().replace("configuration.", "configuration.of_manager('gpu')."))
    assert "slots 5" in script("flow", "-e", "other.env").out
    assert "slots 7" in script("flow", "-e", "other.env", "--slots", "7").out


@pytest.mark.parametrize("words", [["flow"], ["flow", "--dry-run"], ["flow", "other.py"]])
def test_a_missing_script_is_named(script, words):
    (script.project / "flow.py").unlink()
    answer = script(*words)
    assert answer.code == 2
    assert "There is no " in answer.err
    assert words[-1] if words[-1].endswith(".py") else "flow.py" in answer.err
    assert "Traceback" not in answer.err


def test_the_traceback_of_an_error_begins_in_the_script(script):
    (script.project / "flow.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    answer = script("flow")
    assert answer.code == 1
    assert answer.err.count("File ") == 2
    assert "ZeroDivisionError" in answer.err
    (script.project / "flow.py").write_text("import sys\nsys.exit('enough')\n")
    answer = script("flow")
    assert (answer.code, answer.err) == (1, "enough\n")
    (script.project / "flow.py").write_text("if True print(1)\n")
    answer = script("flow")
    assert (answer.code, "SyntaxError" in answer.err, "script_run.py" in answer.err) == (1, True, False)
    (script.project / "flow.py").write_text("from taskfleet.graph import flow\nflow(slots=-1)\n")
    answer = script("flow")
    assert (answer.code, "SLOTS" in answer.err, "Traceback" in answer.err) == (2, True, False)


def test_ctrl_c_is_exit_code_130(script):
    (script.project / "work.py").write_text(
        "BAD = None\n" + WORK.replace("return seed", "import time; time.sleep(600)")
    )
    command = [sys.executable, "-P", "-m", "taskfleet", "flow", "--shutdown-grace-seconds", "0"]
    process = subprocess.Popen(
        command, cwd=script.project, env=script.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while (
        not (status := script("status", "--job-id", "stars", "--json")).out
        or not json.loads(status.out)["counts"]["running"]
    ):
        assert time.monotonic() < deadline, process.poll()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted." in err
    assert "Traceback" not in err


# --- poe graph ---


def test_the_graph_has_one_node_per_function(script):
    (script.project / "work.py").write_text("BAD = 1\n" + WORK)
    script("flow")  # ends as soon as a task fails
    script("launch_worker", "--job-id", "stars")
    answer = script("graph", "--job-id", "stars")
    lines = [re.split(r"\s{2,}", line) for line in answer.out.splitlines()]
    assert lines[0] == ["Job stars: 10 tasks of 3 functions"]
    assert lines[3] == ["work:load", "4", "3 succeeded, 1 failed"]
    assert lines[4] == ["work:fit", "4", "3 succeeded, 1 failed", "work:load"]
    assert lines[5][:2] == ["work:pick", "2"]
    assert lines[5][-1] == "work:fit"

    assert script("graph", "--job-id", "stars", "-o", "g.md").code == 0
    text = (script.project / "g.md").read_text()
    assert text.startswith("```mermaid\nflowchart TD\n")
    assert '    f0["work:load<br>4 tasks<br>3 succeeded, 1 failed"]\n' in text
    assert "    f0 --> f1\n    f1 --> f2\n" in text
    assert script("graph", "--job-id", "stars", "-o", "g.svg").code == 0
    tree = ElementTree.parse(script.project / "g.svg").getroot()
    texts = [one.text for one in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:4] == ["work:load", "4 tasks", "3 succeeded", "1 failed"]
    arrows = [one for one in tree.iter("{http://www.w3.org/2000/svg}path") if "marker-end" in one.attrib]
    assert len(arrows) == 2


def test_a_graph_cannot_be_drawn_without_tasks_or_in_an_unknown_format(poe, trouble):
    answer = poe("graph")
    assert (answer.code, "has no graph" in answer.err, "poe flow" in answer.err) == (1, True, True)
    answer = poe("graph", "-o", "x.png")
    assert (answer.code, ".svg" in answer.err) == (2, True)


def test_functions_are_below_those_whose_results_they_take():
    assert layers_of(4, [(0, 1), (1, 2), (0, 2), (2, 3)]) == [0, 1, 2, 3]
    assert layers_of(2, [(0, 0), (0, 1)]) == [0, 1]
    assert sorted(layers_of(3, [(0, 1), (1, 2), (2, 0)])) == [0, 1, 2]  # a circle is cut open somewhere
    assert layers_of(0, []) == []


def test_edges_over_layers_pass_between_the_nodes_there_and_crossings_are_undone():
    layout = arrange(4, [(0, 1), (1, 2), (0, 2), (0, 3)])
    assert [len(layer) for layer in layout.layers] == [1, 3, 1]
    assert layout.paths[0, 2][0] == 0
    assert layout.paths[0, 2][1] < 0
    crossed = arrange(4, [(0, 3), (1, 2)])
    first, second = crossed.layers
    assert [first.index(0), first.index(1)] == [second.index(3), second.index(2)]
