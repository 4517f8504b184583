"""The file that catches what tasks print."""

import os

import pytest
from taskfleet.worker import output as module
from taskfleet.worker.output import EMPTY_BEYOND_BYTES, OutputFile


@pytest.fixture(params=["frees", "rewrites"])
def caught(request, monkeypatch):
    """A file, and what writes into it; also as it is where the system cannot free the beginning of a file."""
    if request.param == "rewrites":
        monkeypatch.setattr(module, "free_beginning", lambda fd, size: False)

    def make(tail_bytes):
        file = OutputFile(tail_bytes)
        return file, lambda text: os.write(file.fd, text)

    return make


def test_nothing_printed_is_none(caught):
    file, _ = caught(10)
    assert file.take() is None


def test_output_is_returned_once(caught):
    file, write = caught(100)
    write(b"one\n")
    write(b"two\n")
    assert file.take() == b"one\ntwo\n"
    assert file.take() is None
    write(b"three")
    assert file.take() == b"three"


def test_only_the_end_is_kept(caught):
    file, write = caught(5)
    write(b"0123456789")
    assert file.take() == b"56789"


def test_a_tail_of_nothing_keeps_nothing(caught):
    file, write = caught(0)
    write(b"0123456789")
    assert file.take() is None
    write(b"x" * (2 * EMPTY_BEYOND_BYTES))
    file.bound()
    assert file.take() is None


def test_the_file_stays_small_however_much_is_printed_and_its_end_is_right(caught):
    file, write = caught(5000)
    whole = b"".join(b"line %d\n" % n for n in range(1_000_000))
    for start in range(0, len(whole), 100_000):
        write(whole[start : start + 100_000])
        file.bound()
        assert os.fstat(file.fd).st_blocks * 512 <= EMPTY_BEYOND_BYTES + 200_000
    assert file.take() == whole[-5000:]
    assert file.take() is None


def test_bounding_leaves_a_little_output_alone(caught):
    file, write = caught(10)
    write(b"0123456789abc")
    file.bound()
    assert os.fstat(file.fd).st_size == 13
    assert file.take() == b"3456789abc"


def test_output_freed_by_a_slot_is_complete_for_the_runner_that_shares_the_file(caught):
    file, write = caught(8)
    runners = OutputFile.__new__(OutputFile)  # as it is after a fork: another object, the same file
    runners.__dict__.update(file.__dict__)
    write(b"x" * (2 * EMPTY_BEYOND_BYTES) + b"the end")
    file.bound()
    write(b"!")
    assert runners.take() == b"the end!"
    write(b"next")
    file.bound()
    assert runners.take() == b"next"
    write(b"y" * (2 * EMPTY_BEYOND_BYTES))
    file.bound()
    assert os.fstat(file.fd).st_blocks * 512 <= EMPTY_BEYOND_BYTES
    assert runners.take() == b"y" * 8


def test_it_can_stand_in_for_standard_output_and_error(caught):
    file, _ = caught(1000)
    pid = os.fork()
    if pid == 0:
        file.redirect()
        os.write(1, b"out\n")
        os.write(2, b"err\n")
        os.system("echo child")
        os._exit(0)
    os.waitpid(pid, 0)
    assert file.take() == b"out\nerr\nchild\n"
