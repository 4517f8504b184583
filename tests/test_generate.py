"""``poe generate`` writes what is made from the code and from what uv resolves, and ``--check`` notices what is out of date."""

import shutil
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def generate(published, run, tmp_path):
    """Return a function that runs docs/generate.py in a copy of this checkout, which it also returns the path of."""
    copy = tmp_path / "template"
    shutil.copytree(published, copy)
    return copy, lambda *words, **how: run(sys.executable, "docs/generate.py", *words, **{"folder": copy} | how)


def test_a_name_that_is_missing_or_too_many_among_the_installed_ones_is_noticed_and_put_right(generate):
    copy, command = generate
    names = copy / "installed_names.txt"
    right = names.read_text()
    command("--check")
    for wrong in (right.replace("botocore\n", ""), f"{right}zope\n"):
        names.write_text(wrong)
        assert command("--check", status=1).stderr == "installed_names.txt is out of date: uv run poe generate\n"
    assert command().stdout == "wrote installed_names.txt\n"
    assert names.read_text() == right


def test_a_check_that_cannot_resolve_says_so_and_fails(generate, tmp_path):
    _, command = generate
    said = command("--check", status=1, UV_CACHE_DIR=tmp_path / "empty", UV_OFFLINE=1).stderr
    assert said.startswith(
        "installed_names.txt cannot be generated or checked: uv cannot resolve the dependencies of a project.\n"
    )
    assert "the network was disabled" in said
