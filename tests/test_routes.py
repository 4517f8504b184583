"""The same project comes out whichever way the template is reached."""

import sys

import pytest

LAST_LINES = [
    "cd my_tasks",
    "uv sync",
    "uv run poe insert_tasks",
    "uv run poe launch_worker",
    "uv run poe status",
    "uv run poe results -o results.feather",
]


def tree(project):
    """Return the content of every file of a project by its path."""
    return {file.relative_to(project).as_posix(): file.read_bytes() for file in project.rglob("*") if file.is_file()}


@pytest.fixture(scope="session")
def expected(bake_in, tmp_path_factory):
    """The project as baked from this checkout's path."""
    return tree(bake_in(tmp_path_factory.mktemp("expected")))


@pytest.fixture
def create(run, cookiecutter_command, tmp_path):
    """Return a function that bakes in a terminal of its own and returns the tree of the project and what was printed."""
    (tmp_path / "home").mkdir()

    def _create(address, folder=tmp_path):
        done = run(*cookiecutter_command, "-o", tmp_path, address, folder=folder, HOME=tmp_path / "home")
        return tree(tmp_path / "my_tasks"), done.stdout

    return _create


def test_from_a_path(template, create, expected):
    assert create(template)[0] == expected


def test_from_the_current_directory(template, create, expected):
    assert create(".", folder=template)[0] == expected


def test_from_a_relative_path(published, create, expected):
    assert create("template", folder=published.parent)[0] == expected


def test_from_a_git_address(published, create, expected):
    # The "git+" is for cookiecutter, which knows a repository by these letters in its address.
    assert create(f"git+file://{published}")[0] == expected


def test_from_a_zip_file(published, create, expected, run, tmp_path):
    archive = tmp_path / "template.zip"
    run("git", "archive", "--prefix=template-main/", "-o", archive, "HEAD", folder=published)
    assert create(archive)[0] == expected


def test_with_cruft(published, run, expected, tmp_path):
    (tmp_path / "home").mkdir()
    run(
        *(sys.executable, "-m", "cruft", "create", "--no-input", f"file://{published}"),
        folder=tmp_path,
        HOME=tmp_path / "home",
    )
    made = tree(tmp_path / "my_tasks")
    del made[".cruft.json"]
    assert made == expected


def test_the_last_lines_printed_are_the_next_commands(published, create):
    printed = create(published)[1]
    assert [line.strip() for line in printed.splitlines()][-6:] == LAST_LINES


def test_from_elsewhere_the_first_command_names_the_whole_path(published, create, tmp_path):
    printed = create(".", folder=published)[1]
    assert f"cd {tmp_path}/my_tasks" in printed
