"""What the documents say to type is understood by the commands, and their code runs."""

import json
import re
import shlex
from pathlib import Path

import pytest
from pyarrow import feather
from taskfleet.terminal.registry import COMMANDS

ROOT = Path(__file__).resolve().parents[3]

DOCUMENTS = (
    "README.md",
    "docs/guide.md",
    "docs/graph.md",
    "docs/permissions.md",
    "docs/slurm.md",
    "docs/ssh.md",
    "shared_lib/README.md",
    "{{cookiecutter.project_slug}}/README.md",
)
#: poe tasks that are not commands of the library: those of this repository, and the test of a project.
OTHERS = {"demo", "test", "unit", "lint", "format", "chaos", "bench", "generate"}
#: What stands for a value of the reader's own, with one.
VALUES = {"ID": "t1", "NAME": "machine-1", "URL": "ledger", "FILE": "some.env", "…": "", "N": "1"}


def commands_in(text):
    """Yield the commands that a document says to type, without ``uv run poe``: in lines of blocks, and in code spans."""
    blocks = re.findall(r"(?ms)^```\w*\n(.*?)^```", text)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))
    for one in [*lines, *spans]:
        found = re.fullmatch(r"(?:uv run )?poe ([a-z]\w*.*)", one.partition("  #")[0].strip())
        if found:
            yield found[1].strip()


@pytest.fixture(scope="module")
def documented():
    """Return each documented command with the documents that have it."""
    found = {}
    for document in DOCUMENTS:
        for command in commands_in((ROOT / document).read_text()):
            if command.split()[0] not in OTHERS:
                found.setdefault(command, set()).add(document)
    return found


def test_every_documented_command_exists_and_takes_its_flags(documented, poe):
    """Its line is parsed as a whole, and only the file of settings, which does not exist, is refused."""
    assert len(documented) > 30
    wrong = []
    for command, documents in documented.items():
        name, *words = [VALUES.get(word, word) for word in shlex.split(command)]
        if (
            name in COMMANDS
            and not words
            and name in ("task", "results", "retry", "cancel", "move_queue", "copy_queue")
        ):
            continue  # the bare name of a command, in a sentence about it
        words = [word for word in words if word]
        if "-e" in words:
            del words[words.index("-e") : words.index("-e") + 2]
        needs = {"results": ["-o", "x.csv"]} if "-o" not in words and "--output" not in words else {}
        answer = poe(name, *words, *needs.get(name, []), "-e", "no-such-file.env")
        if answer.code != 2 or "-e no-such-file.env: no such file" not in answer.err:
            wrong.append(f"{documents}: poe {command}: {answer.err.strip()[-300:]}")
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def images(project):
    """A project whose table has one image, as in the documents."""
    (project / "tasks.json").write_text(json.dumps([{"image": "m31.fits", "threshold": 2.5}]))
    return project


def test_the_function_in_the_readme_is_enough_for_a_job(images, poe):
    """With the two functions of the reader's own that it calls, and nothing else."""
    samples = re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "README.md").read_text())
    [sample] = [one for one in samples if "def run_task" in one]
    own = "\n\ndef is_downloaded(image): return True\n\ndef count_stars(image, threshold): return len(image)\n"
    (images / "task.py").write_text(sample + own)
    answer = poe("insert_tasks")
    assert (answer.code, answer.err) == (0, "")
    assert poe("launch_worker").code == 0
    assert poe("results", "-o", "results.json").code == 0
    [row] = json.loads((images / "results.json").read_text())
    assert row["result_stars"] == len("m31.fits")


def test_the_python_code_in_the_guide_runs(images):
    (images / "task.py").write_text("def run_task(image, threshold): return {'stars': 1}\n")
    samples = re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "docs/guide.md").read_text())
    [sample] = [one for one in samples if "Job.open" in one]
    exec(compile(sample, "guide.md", "exec"), {"__name__": "sample"})
    assert feather.read_table(images / "results.feather")["result_stars"].to_pylist() == [1]
