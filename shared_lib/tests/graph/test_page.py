"""The page about graphs: its scripts print what it says they print, one after the other in one project, as its reader types them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```", (ROOT / "docs/graph.md").read_text())
[FUNCTIONS] = [text for kind, text in BLOCKS if kind == "python" and text.startswith("# task.py\n")]
SCRIPTS = [
    (text, BLOCKS[place + 1][1])
    for place, (kind, text) in enumerate(BLOCKS)
    if kind == "python" and text.startswith("# flow.py\n")
]
#: The files of a manager, which begin with a comment that is their path.
OTHER_FILES = [
    (text.splitlines()[0].removeprefix("# "), text) for _, text in BLOCKS if text.startswith("# config/task.gpu.")
]


def test_the_page_has_scripts():
    assert len(SCRIPTS) == 7
    assert [path for path, _ in OTHER_FILES] == ["config/task.gpu.env", "config/task.gpu.sh"]
    assert all(BLOCKS[BLOCKS.index(("python", text)) + 1][0] == "text" for text, _ in SCRIPTS)


@pytest.mark.parametrize(
    ("script", "printed"), SCRIPTS, ids=["functions", "apps", "by value", "maps", "parts", "managers", "MPI"]
)
def test_each_script_prints_what_the_page_shows(project, script, printed, lacking):
    """The second time, too, with no new tasks."""
    if "mpi=" in script and shutil.which("mpiexec") is None:
        lacking("an MPI (Debian: openmpi-bin)")
    project.settings(RETRIES_ON_EXCEPTION=0).file("task.py", FUNCTIONS).file("flow.py", script)
    for path, text in OTHER_FILES:
        project.file(path, text)
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "flow.py"], cwd=project.folder, env=project.environment(), capture_output=True, text=True
        )
        assert (ended.returncode, ended.stdout) == (0, printed), ended.stderr
    assert "Worker for job" not in ended.stderr


def test_the_script_in_the_readme(project):
    [script] = re.findall(r"(?ms)^```python\n(from taskfleet.graph.*?)^```", (ROOT / "README.md").read_text())
    project.file("task.py", FUNCTIONS).file("flow.py", script)
    said = project.start(command=("flow.py",)).wait().text
    assert 0.7 < float(said.splitlines()[-1]) < 0.85
    said = project.start("--job-id", "pi", command=("-m", "taskfleet", "status")).wait().text
    assert re.search(r"succeeded +101\b", said), said
