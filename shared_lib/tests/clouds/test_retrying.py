"""Retries of calls, and functions that run in parallel."""

import logging
import threading
import time

import pytest
from taskfleet.clouds.parallel import run_parallel
from taskfleet.clouds.retrying import retry_call
from taskfleet.errors import PermissionDeniedError, UnreachableError


def failing(*errors):
    """A function that raises these errors, one per call, and then returns the number of calls."""
    left = list(errors)

    def action():
        if left:
            raise left.pop(0)
        return len(errors) + 1

    return action


def test_a_call_is_retried_until_it_succeeds_and_each_retry_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="taskfleet"):
        assert retry_call(30.0, failing(UnreachableError("first"), UnreachableError("second"))) == 3
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["first", "second"]


def test_the_last_error_is_raised_when_the_time_is_over():
    began_at = time.monotonic()
    with pytest.raises(UnreachableError):
        retry_call(0.3, failing(*(UnreachableError(str(number)) for number in range(1000))))
    assert time.monotonic() - began_at >= 0.3


def test_other_errors_are_not_retried():
    with pytest.raises(PermissionDeniedError):
        retry_call(30.0, failing(PermissionDeniedError("no")))


def test_results_have_the_keys_of_their_functions():
    assert run_parallel({"a": lambda: 1, "b": lambda: 2}, max_threads=2) == {"a": 1, "b": 2}
    assert run_parallel({}, max_threads=2) == {}


def test_all_functions_run_to_the_end_and_the_first_error_is_raised():
    done = []

    def fail():
        raise UnreachableError("no")

    with pytest.raises(UnreachableError):
        run_parallel({"a": fail, "b": lambda: done.append("b")}, max_threads=1)
    assert done == ["b"]


def test_after_a_failure_running_functions_are_asked_to_end_and_others_are_not_started():
    stopped = threading.Event()

    def fail():
        raise UnreachableError("no")

    jobs = {"running": lambda: stopped.wait(30), "failing": fail}
    jobs |= {f"waiting {number}": lambda: time.sleep(0.05) for number in range(400)}
    began_at = time.monotonic()
    with pytest.raises(UnreachableError):
        run_parallel(jobs, max_threads=2, stop=stopped.set)
    assert stopped.is_set()
    assert time.monotonic() - began_at < 10
