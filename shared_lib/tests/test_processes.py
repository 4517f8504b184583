"""Telling the living from the dead."""

import os
import signal
import subprocess
import sys

import pytest
from taskfleet.processes.identity import hostname, identity, is_surely_dead


@pytest.fixture
def sleeper():
    """A child that lives until it is killed; the parent has not waited for it."""
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield child
    child.kill()
    child.wait()


def renamed(name, *, place=None, pid=None, start=None):
    """Change parts of an identity."""
    parts = name.split("|")
    changes = (place, pid, start)
    return "|".join(new if new is not None else old for old, new in zip(parts, changes, strict=True))


def test_a_name_has_place_pid_and_start():
    place, pid, start = identity().split("|")
    assert place
    assert int(pid) == os.getpid()
    assert int(start) > 0
    assert identity() == identity(os.getpid())


def test_this_process_lives():
    assert not is_surely_dead(identity())


def test_two_processes_have_different_names(sleeper):
    assert identity(sleeper.pid) != identity()


def test_a_child_lives_until_it_is_killed_and_waited_for(sleeper):
    name = identity(sleeper.pid)
    assert not is_surely_dead(name)
    sleeper.kill()
    sleeper.wait()
    assert is_surely_dead(name)


def test_a_zombie_is_dead(sleeper):
    name = identity(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    os.kill(sleeper.pid, 0)
    assert is_surely_dead(name)


def test_a_suspended_process_lives(sleeper):
    name = identity(sleeper.pid)
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
    assert not is_surely_dead(name)


def test_a_process_with_the_pid_of_a_dead_one_is_another():
    name = identity()
    started = int(name.split("|")[2])
    assert is_surely_dead(renamed(name, start=str(started - 1)))


@pytest.mark.parametrize("place", ["another-boot/4026531836", "", "host"])
def test_nothing_is_known_of_processes_elsewhere(place):
    assert not is_surely_dead(renamed(identity(), place=place, start="1"))


@pytest.mark.parametrize("name", ["", "|", "||", "x", "x|1", "x|y|z", "a|b|c|d"])
def test_an_invalid_name_is_not_known_to_be_dead(name):
    assert not is_surely_dead(name)


@pytest.mark.parametrize("pid", ["", "-1", "x", "1.5"])
def test_an_invalid_process_id_is_not_known_to_be_dead(pid):
    assert not is_surely_dead(renamed(identity(), pid=pid))


def test_a_process_of_another_user_is_seen():
    first = identity(1)
    assert not is_surely_dead(first)
    assert is_surely_dead(renamed(first, start=first.split("|")[2] + "0"))


def test_a_process_name_with_brackets_and_spaces_is_parsed(tmp_path):
    program = tmp_path / "odd) S 1 (name"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "1000"])
    try:
        parts = identity(child.pid).split("|")
        assert int(parts[2]) >= int(identity().split("|")[2])
        assert not is_surely_dead(identity(child.pid))
    finally:
        child.kill()
        child.wait()


def test_the_hostname_is_this_machines():
    assert hostname() == os.uname().nodename
