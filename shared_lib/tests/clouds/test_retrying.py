"""Retries of calls, and functions that run in parallel."""

import logging
import threading
import time

import pytest
from taskfleet.clouds.parallel import run_parallel
from taskfleet.clouds.retrying import CALM_SECONDS, FORGET_AFTER_SECONDS, Outages, Retries, retry_call
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
    with caplog.at_level(logging.DEBUG, logger="taskfleet"):
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


class TestOutages:
    @pytest.fixture
    def said(self):
        return []

    @pytest.fixture
    def outages(self, said):
        return Outages(said.append)

    @pytest.fixture
    def fail(self, outages):
        """Report that a call has failed for so long."""

        def fail(call, *, seconds=10.0, text="No answer."):
            outages.failed(call, UnreachableError(text), time.monotonic() - seconds)

        return fail

    def test_an_outage_is_reported_once_and_so_is_its_end(self, outages, fail, said, caplog):
        with caplog.at_level(logging.DEBUG, logger="taskfleet"):
            for number in range(602):
                fail("receive", text=f"No answer to request {number}.")
            outages.answered("receive")
            outages.answered("receive")
        assert said == ["No answer to request 0. Retrying.", "The queue is available again."]
        assert [record.getMessage() for record in caplog.records] == said

    def test_a_failure_of_a_moment_is_not_reported(self, outages, fail, said):
        fail("receive", seconds=0.0)
        outages.answered("receive")
        assert said == []

    def test_an_outage_is_over_when_all_calls_that_failed_are_answered(self, outages, fail, said):
        fail("receive")
        fail("send")
        outages.answered("receive")
        outages.answered("exists")
        assert len(said) == 1
        outages.answered("send")
        assert len(said) == 2

    def test_a_call_that_is_not_repeated_does_not_keep_an_outage_open(self, outages, fail, said, monkeypatch):
        fail("extend")
        fail("receive")
        later = time.monotonic() + FORGET_AFTER_SECONDS + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        outages.answered("receive")
        assert len(said) == 2

    def test_a_service_that_comes_and_goes_is_reported_again_only_if_it_stays_away(self, outages, fail, said):
        for _ in range(100):
            fail("receive")
            outages.answered("receive")
        assert len(said) == 2
        fail("receive", seconds=CALM_SECONDS + 1)
        assert len(said) == 3

    def test_a_service_that_has_answered_once_is_waited_for(self, said):
        retries = Retries(0.0, Outages(said.append, waits=True, report_after_seconds=0.0))
        with pytest.raises(UnreachableError):
            retries.call("a", failing(UnreachableError("wrong address?")))
        assert retries.call("a", failing()) == 1
        assert retries.call("b", failing(UnreachableError("away"), UnreachableError("away"))) == 3

    def test_a_refusal_is_an_answer(self, outages, fail, said):
        fail("a")
        with pytest.raises(PermissionDeniedError):
            Retries(0.0, outages).call("a", failing(PermissionDeniedError("no")))
        assert said[-1] == "The queue is available again."


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
