"""The progress of sending a job's tasks, as the caller receives it."""

import subprocess
import sys
import time

import pytest
from taskfleet.processes.identity import identity
from taskfleet.queues.job import JobQueues, SendingProgress, send_if_remote
from taskfleet.watch.sending import SendingDisplay

pytestmark = pytest.mark.parametrize("new_job", ["pubsub"], indirect=True)


class Heard(SendingProgress):
    """Records the progress."""

    def __init__(self):
        self.steps = []

    def sent(self, tasks, total):
        self.steps.append((tasks, total))


@pytest.fixture
def sender():
    """A process that could be at sending."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def unsend(job):
    """Have all tasks be sent once more."""
    job.database.execute("UPDATE segment SET sent_seq = 0")


def test_the_library_prints_nothing_and_reports_how_far_it_has_come(new_job, capfd):
    job = new_job()
    job.insert(25)
    unsend(job)
    heard = Heard()
    assert send_if_remote(job.database, job.configuration, heard) == 25
    assert heard.steps == [(25, 25)]
    unsend(job)
    with JobQueues(job.configuration) as queues:
        assert queues.send_unsent(job.database) == 25
    assert capfd.readouterr() == ("", "")


def test_the_display_shows_which_process_is_waited_for(new_job, sender, capfd):
    class Display(SendingDisplay):
        def waits_for(self, process):
            super().waits_for(process)
            sender.kill()
            sender.wait()

    job = new_job()
    job.insert(5)
    unsend(job)
    job.database.execute("INSERT INTO sender VALUES (?, ?)", (identity(sender.pid), time.time()))
    with Display() as display:
        assert send_if_remote(job.database, job.configuration, display) == 5
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.endswith(f"Waiting for another process to send its tasks (process {sender.pid}).\n")
