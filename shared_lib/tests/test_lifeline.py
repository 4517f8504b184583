"""Processes that end with the one that started them, whatever program they have become."""

import signal
import subprocess
import sys

import pytest
from taskfleet.processes import lifeline
from taskfleet.processes.lifeline import Lifeline

from shared_lib.tests.worker.conftest import command_line, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux kills them")

#: Owns a lifeline, and prints its address.
OWNER = """
import sys, signal
from taskfleet.processes.lifeline import Lifeline
one = Lifeline(spans_hosts=True)
print(one.address, flush=True)
signal.pause()
"""


def attached(address):
    """Start a process that attaches itself and becomes ``sleep``."""
    command = [sys.executable, "-I", "-S", lifeline.__file__, address, "sleep", "1000"]
    process = subprocess.Popen(command)
    until(lambda: command_line(process.pid).startswith("sleep"), "sleep")
    return process


def test_a_lifeline_that_is_closed_ends_all_processes():
    one = Lifeline(spans_hosts=False)
    processes = [attached(one.address) for _ in range(3)]
    assert [each.poll() for each in processes] == [None] * 3
    one.close()
    assert [each.wait(60) for each in processes] == [-signal.SIGKILL] * 3


def test_an_owner_that_is_killed_ends_its_processes():
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        process = attached(owner.stdout.readline().strip())
        owner.kill()
        assert process.wait(60) == -signal.SIGKILL


def test_a_process_that_comes_too_late_does_not_begin():
    one = Lifeline(spans_hosts=False)
    address = one.address
    one.close()
    done = subprocess.run(
        [sys.executable, "-I", "-S", lifeline.__file__, address, "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{address}, which launched this process, does not answer")
