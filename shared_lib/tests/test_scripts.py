"""The scripts of a project."""

import subprocess
import sys

import pytest

INTERRUPTED = """
import runpy, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == sys.argv[2]:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("function", "module"),
    [
        ("insert_tasks", "taskfleet.commands.insert_tasks"),
        ("insert_tasks", "taskfleet.api.inserting"),
        ("launch_worker", "taskfleet.commands.launch_worker"),
        ("launch_worker", "taskfleet.worker.hooks"),
        ("launch_worker", "taskfleet.settings.reader"),
    ],
)
def test_ctrl_c_during_the_imports_of_a_script_shows_no_traceback(tmp_path, function, module):
    script = tmp_path / "script.py"
    script.write_text(f'from taskfleet import {function}\n\nif __name__ == "__main__":\n    {function}()\n')
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, script, module], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")
