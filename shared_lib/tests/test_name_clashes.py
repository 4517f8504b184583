"""Files of the user with the name of a module of Python or of a package: one sentence, whichever command imports what first."""

import os
import subprocess
import sys

import pytest
from taskfleet.name_clashes import package_clash, python_clash

SCRIPTS = {
    "insert_tasks.py": "from taskfleet import insert_tasks\n\ninsert_tasks()\n",
    "run.py": "from taskfleet import launch_worker\n\nlaunch_worker()\n",
}
#: Commands that import the user's code, each as a poe task runs it.
WITH_CODE = (["insert_tasks.py"], ["run.py"], ["-P", "-m", "taskfleet", "insert_tasks"])


@pytest.fixture
def project(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "task.env").write_text("JOB_ID=one\nTASK_TABLE=tasks.csv\nSLOTS=1\n")
    (tmp_path / "tasks.csv").write_text("n\n1\n")
    (tmp_path / "task.py").write_text("def run_task(n): return n\n")
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def python(project):
    """Return a function that runs Python in the project."""

    def run(*words):
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return subprocess.run([sys.executable, *words], cwd=project, env=kept, capture_output=True, text=True)

    return run


@pytest.mark.parametrize("name", ["signal.py", "random.py", "queue.py", "types.py", "time.py", "secrets.py", "logging"])
@pytest.mark.parametrize("words", WITH_CODE, ids=" ".join)
def test_a_file_with_the_name_of_a_module_of_python_is_named(project, python, words, name):
    if name.endswith(".py"):
        (project / name).write_text("X = 1\n")
    else:
        (project / name).mkdir()
        (project / name / "__init__.py").write_text("")
    done = python(*words)
    module = name.removesuffix(".py")
    sentence = (
        f"error: {project / name} has the name of Python's module {module!r}, and one hides the other. Rename it.\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
    (project / name).rename(project / f"my_{name}")
    done = python("insert_tasks.py")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["signal", "random", "types", "numpy", "tqdm", "taskfleet"])
def test_commands_that_do_not_import_the_user_s_code_work_regardless(project, python, name):
    python("insert_tasks.py")
    (project / f"{name}.py").write_text("X = 1\n")
    done = python("-P", "-m", "taskfleet", "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Job one: 0 of 1 tasks done")


@pytest.mark.parametrize("name", ["numpy", "pyarrow", "tqdm", "dotenv"])
def test_a_file_with_the_name_of_a_package_that_the_library_needs_is_named(project, python, name):
    (project / f"{name}.py").write_text("X = 1\n")
    done = python("-P", "-m", "taskfleet", "insert_tasks")
    path = project / f"{name}.py"
    sentence = f"error: {path} has the name of the installed package {name!r}, and one hides the other. Rename it.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)


def test_files_that_hide_nothing_are_accepted(project, python):
    (project / "test.py").write_text("")
    (project / "helpers.py").write_text("")
    for folder in ("tests", "email", "yaml", "stars"):  # without __init__.py, a folder hides no module
        (project / folder).mkdir()
    (project / "stars" / "__init__.py").write_text("")
    (project / "stars" / "random.py").write_text("")
    assert python_clash(str(project)) is None
    assert package_clash(str(project)) is None
    done = python("insert_tasks.py")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_package_that_the_library_does_not_need_may_be_hidden(project, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("site-packages")
    (elsewhere / "stars.py").write_text("")
    monkeypatch.syspath_prepend(elsewhere)
    (project / "stars.py").write_text("")
    assert package_clash(str(project)) is None


def test_another_program_can_catch_the_error(project, python):
    (project / "queue.py").write_text("")
    (project / "main.py").write_text("try:\n    import taskfleet\nexcept ImportError as error:\n    print(error)\n")
    done = python("main.py")
    assert done.stdout.startswith(f"{project / 'queue.py'} has the name of Python's module 'queue'")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_does_not_exist_has_no_clash(tmp_path):
    assert python_clash(str(tmp_path / "nowhere")) is None
