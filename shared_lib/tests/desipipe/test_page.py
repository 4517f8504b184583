"""``docs/desipipe.md``: its script runs, and it has every name of the package and every command."""

import re
from pathlib import Path

import pytest
import taskfleet.desipipe
from taskfleet.desipipe.console import VERBS

from shared_lib.tests.desipipe.scripts import python

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "desipipe.md").read_text()


def test_the_script_of_the_page_runs(tmp_path):
    text = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    (tmp_path / "script.py").write_text(text)
    assert re.fullmatch(r"pi is ~ 3\.1\d\n", python(tmp_path, "script.py"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_is_named(verb):
    assert f"`{verb}`" in PAGE or f"`taskfleet {verb}`" in PAGE


@pytest.mark.parametrize("name", ["Queue", "TaskManager", "Environment", "FileManager", "spawn", "setup_logging"])
def test_every_name_of_scripts_is_named(name):
    assert name in taskfleet.desipipe.__all__
    assert f"`{name}" in PAGE
