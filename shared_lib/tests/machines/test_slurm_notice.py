"""The time limit of a batch job, as a worker learns of it."""

import time

import pytest
from taskfleet.machines.slurm.notice import SlurmWatcher
from taskfleet.machines.slurm.script import END_VARIABLE

from shared_lib.tests.machines.contract import until


@pytest.fixture
def start(monkeypatch):
    """Starts a watcher of a job with a time limit; returns it, and its clock, which stands still."""

    def make(seconds):
        now = [1000.0]
        monkeypatch.setenv(END_VARIABLE, str(now[0] + seconds))
        one = SlurmWatcher("", clock=lambda: now[0])
        one.start()
        return one, now

    return make


def waits(watcher):
    """Return whether a watcher has looked a few times since, and gives no notice."""
    time.sleep(2.5)
    return watcher.notice is None


def test_near_the_limit_there_is_a_notice_with_the_time_left(start):
    watcher, now = start(60.0)
    now[0] += 49.0
    assert waits(watcher)
    now[0] += 2.0
    assert until(lambda: watcher.notice, "the notice").seconds == 4.0


def test_long_tasks_bring_it_forward_but_not_beyond_half_of_the_time(start):
    watcher, now = start(3600.0)
    watcher.longest_task_seconds = 1000.0
    now[0] += 2099.0
    assert waits(watcher)
    now[0] += 2.0
    assert until(lambda: watcher.notice, "the notice").seconds == 1494.0
    watcher, now = start(3600.0)
    watcher.longest_task_seconds = 10_000.0
    now[0] += 1799.0
    assert waits(watcher)
    now[0] += 2.0
    assert until(lambda: watcher.notice, "the notice").seconds == 1794.0


@pytest.mark.parametrize("value", ["", "soon"])
def test_without_a_limit_there_is_none(monkeypatch, value):
    monkeypatch.setenv(END_VARIABLE, value)
    one = SlurmWatcher("")
    one.start()
    assert one.notice is None
