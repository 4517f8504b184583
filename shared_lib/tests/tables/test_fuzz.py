"""Damaged and made-up tables of every format: the only answers are rows, or an error of the library in one line.

The inputs depend on a seed only. They are read in a process of their own, because what they may find includes segmentation faults.
``python -m shared_lib.tests.tables.fuzz FORMAT SEED COUNT`` looks for more.
"""

import subprocess
import sys

import pytest
from taskfleet.errors import TaskfleetError

from shared_lib.tests.tables import fuzz


@pytest.mark.parametrize("suffix", fuzz.SUFFIXES)
def test_a_damaged_table_gives_rows_or_an_error_in_one_line(tmp_path, suffix):
    command = [sys.executable, "-m", "shared_lib.tests.tables.fuzz", suffix, "1", "300"]
    answer = subprocess.run(
        command, capture_output=True, text=True, timeout=280, env=fuzz.environment(tmp_path), check=False
    )
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout


@pytest.mark.parametrize(("suffix", "content"), fuzz.FINDS)
def test_what_was_found_stays_found(tmp_path, suffix, content):
    path = tmp_path / f"t{suffix}"
    path.write_bytes(content)
    try:
        fuzz.read(path)
    except TaskfleetError as error:
        assert "\n" not in str(error)  # noqa: PT017
