"""Standard error that is kept apart from standard output, and functions that travel as files."""

import json
import os
import pickle
from contextlib import closing

import cloudpickle
import pytest
from taskfleet.errors import FunctionError
from taskfleet.ledger import calls
from taskfleet.ledger.database import create
from taskfleet.references import Store
from taskfleet.tasks import streams
from taskfleet.worker import stored_functions
from taskfleet.worker.output import EMPTY_BEYOND_BYTES, open_output
from taskfleet.worker.shared_file import SharedFile
from taskfleet.worker.stored_functions import StoredFunction

from shared_lib.tests.worker.conftest import JOB

PRINTS = """
import os, sys
def run_task(name, ends=False):
    print("out", name, flush=True)
    os.system(f"echo err {name} >&2")
    print("out", name)
    if ends:
        sys.stdout.flush()
        os._exit(3)
"""


class Broken(StoredFunction):
    def load(self):
        raise ImportError("no module of this name")


def double(n):
    return 2 * n


def test_errors_follow_the_output_behind_a_separator():
    output = open_output(100)
    assert output.is_empty
    os.write(output.errors.fd, b"wrong")
    assert not output.is_empty
    assert output.take() == b"\x1ewrong"
    os.write(output.fd, b"right")
    os.write(output.errors.fd, b"wrong")
    assert output.take() == b"right\x1ewrong"
    os.write(output.fd, b"right")
    assert output.take() == b"right"
    assert output.take() is None


def test_each_has_its_own_end():
    output = open_output(3)
    os.write(output.fd, b"abcdef")
    os.write(output.errors.fd, b"x" * 2 * EMPTY_BEYOND_BYTES + b"end")
    output.bound()
    assert os.fstat(output.errors.fd).st_blocks * 512 < EMPTY_BEYOND_BYTES
    assert output.take() == b"def\x1eend"


def test_another_process_shares_both_files():
    output = open_output(100, files=(SharedFile("one"), SharedFile("two")))
    other = open_output(100, files=(output.file, output.errors.file))
    os.write(other.fd, b"1")
    os.write(other.errors.fd, b"2")
    assert output.take() == b"1\x1e2"


def test_what_separates_the_two_cannot_be_printed():
    output = open_output(100)
    os.write(output.fd, b"1\x1e2")
    assert output.take() == rb"1\x1e2"
    os.write(output.fd, b"1\x1e2")
    os.write(output.errors.fd, b"\x1e")
    assert streams(output.take().decode()) == (r"1\x1e2", r"\x1e")


@pytest.mark.parametrize("per_process", [0, 1, 3])
@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)], indirect=True)
def test_only_tasks_of_graphs_have_their_errors_apart(project, per_process):
    """Also where one process runs both kinds in turn, and where a task kills its process."""
    project.write(PRINTS, TASKS_PER_PROCESS=per_process, SLOTS=1)
    for n in range(4):
        if n == 2:
            project.insert({f"t{n}": {"name": f"t{n}"} for n in range(4)})
        with closing(create(project.ledger_path, job_id=JOB, project=project.folder, now=0.0)) as database:
            data = json.dumps({"name": f"g{n}", "ends": n == 1})
            calls.insert_calls(
                database, [calls.Call(f"g{n}", data, calls.register_function(database, "task:run_task"))]
            )
    project.work()
    for n in range(4):
        assert project.last(f"t{n}").output == f"out t{n}\nerr t{n}\nout t{n}\n"
        assert project.last(f"t{n}").stderr is None
        found = project.last(f"g{n}")
        assert (found.stdout, found.stderr) == (f"out g{n}\nout g{n}\n", f"err g{n}\n")
        assert found.output == f"{found.stdout}{found.stderr}"


def test_a_stored_function_is_loaded_by_its_name(tmp_path):
    store = Store(tmp_path)
    data = cloudpickle.dumps(double)
    stored = StoredFunction(data, is_bash=True, may_pickle=False)
    name = stored_functions.save(pickle.dumps(stored), store, manager="abc", name="double")
    assert stored_functions.is_stored(name)
    assert name.endswith(":abc:double")
    found, function = stored_functions.load(name, store)
    assert (found.is_bash, found.may_pickle) == (True, False)
    assert function(n=2) == 4
    as_saved = {"is_bash": True, "may_pickle": False}
    assert stored_functions.is_usable(name, store, **as_saved)
    assert not stored_functions.is_usable(name.replace(stored_functions.PYTHON, "3.2"), store, **as_saved)
    assert not stored_functions.is_usable(name, store, is_bash=True, may_pickle=True)
    assert not stored_functions.is_usable(name, store, is_bash=False, may_pickle=False)


def test_a_stored_function_that_cannot_be_loaded_says_why(tmp_path):
    store = Store(tmp_path)
    name = stored_functions.save(
        pickle.dumps(Broken(b"", is_bash=False, may_pickle=False)), store, manager="abc", name="double"
    )
    with pytest.raises(FunctionError, match="double cannot be restored: ImportError: no module of this name"):
        stored_functions.load(name, store)
    with pytest.raises(FunctionError, match=r"was stored by Python 3\.2, and this is"):
        stored_functions.load(name.replace(stored_functions.PYTHON, "3.2"), store)
    for path in tmp_path.rglob("*.pkl"):
        path.unlink()
    assert not stored_functions.is_usable(name, store, is_bash=False, may_pickle=False)
    with pytest.raises(FunctionError, match="does not exist"):
        stored_functions.load(name, store)
