"""Every command of the README is run, as it stands there."""

import re
import sys
import tomllib

import pytest


@pytest.fixture(scope="module")
def readme(template):
    return (template / "README.md").read_text()


@pytest.fixture(scope="module")
def commands(readme):
    """The lines of the README's bash blocks."""
    return "".join(re.findall(r"```bash\n(.*?)```", readme, re.DOTALL)).splitlines()


@pytest.fixture(scope="module")
def shell(run, published, tmp_path_factory):
    """Return a function that types lines in a folder, in a virtual environment that has pip only; ``gh:…`` is this checkout."""
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", venv, folder=venv)

    def _shell(lines, folder):
        script = "\n".join(lines).replace("gh:org/cloud-tasks-template", f"git+file://{published} --no-input")
        path = f"PATH={venv}/bin:$PATH"
        return run("bash", "-ec", f"export {path}\n{script}", folder=folder).stdout

    return _shell


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_runs_ten_thousand_tasks_and_says_where_the_results_are(commands, shell, published):
    assert commands[0] == "pip install uv && uv run poe demo"
    out = shell(commands[:1], published)
    assert "Succeeded: 10,000" in out
    results = re.search(r"The results are in (.*results\.feather)", out)[1]
    shell([f"test -s {results}", f"rm -r {results.rpartition('/demo/')[0]}"], published)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_to_use_it_work_one_after_the_other(commands, shell, tmp_path):
    assert commands[1].startswith("uvx cookiecutter gh:")
    out = shell(["pip install -q uv", *commands[1:-1]], tmp_path)
    assert "Wrote 10,000 rows to results.feather: 10,000 succeeded" in out


def test_the_command_to_test_it_is_what_ci_runs(commands, template):
    """Which is what is running now, if this is CI."""
    assert commands[-1] == "pip install uv && uv run poe test"
    assert (template / ".ci" / "run").read_text().splitlines()[-1] == commands[-1]


def test_the_table_of_poe_tasks_is_complete(readme, template):
    groups = tomllib.loads((template / "pyproject.toml").read_text())["tool"]["poe"]["groups"]
    tasks = {name for group in groups.values() for name in group["tasks"]}
    table = readme.partition("## The poe tasks")[2].partition("\n## ")[0]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == tasks


def test_everything_the_tree_and_the_links_name_is_there(readme, template):
    block = readme.partition("## Repository layout\n\n```\n")[2].partition("```")[0]
    for line in block.splitlines():
        name = re.sub(r"^[│├└─ ]+", "", line).split()[0]
        places = [template, template / "shared_lib", template / "shared_lib/src/taskfleet"]
        assert any((place / name).exists() for place in places), line
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", readme):
        assert (template / link).exists(), link
