"""Figures in words."""

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.ledger.counters import Durations
from taskfleet.ledger.queries import LibraryVersions, WorkerRecord
from taskfleet.tasks import FAILURE_KINDS, Outcome, State
from taskfleet.text import columns
from taskfleet.watch import text
from taskfleet.watch.causes import Cause
from taskfleet.watch.status import Status


def near(border):
    """Return numbers just below and above a border between two forms."""
    return st.floats(-0.02, 0.02).map(lambda part: border * (1 + part))


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    """The time zone of times for people."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.00123, "0.0012 s"),
        (0.354, "0.35 s"),
        (0.0009996, "0.001 s"),
        (0.99, "0.99 s"),
        (0.999, "1.0 s"),
        (1, "1.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.4, "59 s"),
        (59.6, "1m 00s"),
        (59.99, "1m 00s"),
        (507, "8m 27s"),
        (3599, "59m 59s"),
        (3599.7, "1h 00m"),
        (11_130, "3h 05m"),
        (86_399, "23h 59m"),
        (86_400, "1d 00h"),
        (187_200, "2d 04h"),
        (100 * 86_400, "100d 00h"),
    ],
)
def test_a_duration_as_people_say_it(seconds, words):
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("per_second", "words"),
    [
        (123_456.7, "123,457/s"),
        (10, "10/s"),
        (9.94, "9.9/s"),
        (9.96, "10/s"),
        (0.9999, "1.0/s"),
        (0.9999 / 60, "1.0/min"),
        (1, "1.0/s"),
        (0.5, "30.0/min"),
        (1 / 60, "1.0/min"),
        (1 / 61, "59.0/h"),
        (1 / 3600, "1.0/h"),
    ],
)
def test_a_rate_in_a_unit_that_makes_it_readable(per_second, words):
    assert text.rate(per_second) == words


#: Seconds of each unit of a duration, and its greatest number.
DURATION_UNITS = {"ms": (0.001, 1), "s": (1, 60), "m": (60, 60), "h": (3600, 24), "d": (86_400, 10**9)}
RATE_UNITS = {"/s": (1, 10**9), "/min": (1 / 60, 60), "/h": (1 / 3600, 60)}


def read(words, units):
    """Return the value of a figure in words, and the value of its last digit."""
    value = last = 0.0
    for digits, fraction, unit in re.findall(r"([\d,]+)(?:\.(\d+))? ?([a-z/]+)", words):
        number, (seconds, below) = float(f"{digits.replace(',', '')}.{fraction or 0}"), units[unit]
        assert number < below, words
        value += number * seconds
        last = seconds / 10 ** len(fraction)
    return value, last


@given(st.one_of(st.floats(1e-7, 1e7), st.sampled_from([0.001, 1, 10, 60, 3600, 86_400]).flatmap(near)))
def test_a_duration_in_words_is_the_nearest_in_its_unit(seconds):
    words = text.duration(seconds)
    value, last = read(words, DURATION_UNITS)
    assert value - last / 2 - 1e-9 <= seconds <= value + last + 1e-9, words  # hours and minutes are rounded down
    assert not re.match(r"\d\d+\.\d+ s$", words), words


@given(st.one_of(st.floats(1 / 3600, 1e7), st.sampled_from([1 / 3600, 1 / 60, 1, 10]).flatmap(near)))
def test_a_rate_in_words_is_the_nearest_in_its_unit(per_second):
    words = text.rate(per_second)
    value, last = read(words, RATE_UNITS)
    assert abs(value - per_second) <= last / 2 + 1e-9, words
    assert not re.match(r"\d\d+\.\d+/s$", words), words


def test_columns_are_aligned_and_the_last_is_left_as_it_is():
    rows = [("t1", "failed (exit)", "2", "a reason, however long"), ("a-longer-id", "pending", "0", "")]
    assert columns(rows, ("task", "state", "attempts", "reason")).splitlines() == [
        "task         state          attempts  reason",
        "t1           failed (exit)  2         a reason, however long",
        "a-longer-id  pending        0",
    ]
    assert columns([], ("a", "b")) == "a  b"


def make_status(*, rate=None, eta=None, durations=None, failures=(), causes=(), workers=(), is_over=False, **counts):
    numbers = {state: counts.pop(state.word, 0) for state in State}
    figures = {"duplicates": 0, "retries": 0, "lost": 0, "spot_terminations": 0} | counts
    return Status(
        job_id="job",
        total=sum(numbers.values()),
        counts=numbers,
        failures=dict.fromkeys(FAILURE_KINDS, 0) | dict(failures),
        causes=list(causes),
        rate_per_second=rate,
        eta_seconds=eta,
        durations=durations,
        workers=list(workers),
        began_at=1000.0,
        ended_at=1060.0 if is_over else None,
        **figures,
    )


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (make_status(), "no tasks are inserted"),
        (make_status(pending=10), "0 of 10 tasks done (0 %)"),
        (make_status(pending=1, succeeded=1999), "1,999 of 2,000 tasks done (99 %)"),
        (make_status(succeeded=2, failed=1, killed=1), "4 of 4 tasks done (100 %), 1 failed"),
        (make_status(pending=1, succeeded=1, rate=0.5, eta=2.0), "1 of 2 tasks done (50 %), 30.0/min, 2.0 s left"),
        (make_status(running=1, succeeded=2), "2 of 3 tasks done (66 %)"),
    ],
)
def test_a_line_of_progress_never_says_all_is_done_when_it_is_not(status, line):
    assert text.progress_line(status) == line


DURATIONS = Durations(
    n=2, low=0.004, high=12.0, mean=1.5, standard_deviation=0.25, median=1.0, percentile_90=10.0, percentile_95=11.0
)


def test_the_final_report_of_a_job_that_is_complete():
    status = make_status(
        succeeded=58,
        failed=2,
        durations=DURATIONS,
        failures={Outcome.EXIT: 2},
        causes=[Cause(kind=Outcome.EXIT, n=2, task_id="t7", reason="Exit: x")],
        is_over=True,
        retries=1200,
        lost=3,
    )
    assert text.final_report(status, now=5000.0).splitlines() == [
        "=" * 60,
        "JOB COMPLETE: job",
        "=" * 60,
        "",
        "Total tasks: 60",
        "  Succeeded: 58",
        "  Failed: 2",
        "",
        "Elapsed time: 1m 00s",  # to its last task, not to this worker's end
        "Tasks/hour: 3,600.0",
        "",
        "Task durations:",
        "  Range:  0.004 to 12.00 seconds",
        "  Mean:   1.50 ± 0.25 seconds",
        "  Median: 1.00 seconds",
        "  90th %: 10.00 seconds",
        "  95th %: 11.00 seconds",
        "",
        "Failures:",
        "       2 exit        for example t7: Exit: x",
        "",
        "Retries: 1,200; lost with their worker: 3; duplicate results ignored: 0",
        "",
        "Spot terminations: 0",
        "",
        "=" * 60,
    ]


def test_the_final_report_of_a_job_that_is_not_complete():
    report = text.final_report(make_status(succeeded=1, pending=2), now=1030.0)
    assert "WORKER STOPPED, JOB NOT COMPLETE: job" in report
    assert "  Pending: 2" in report
    assert "Elapsed time: 30 s" in report
    assert "Tasks/hour: 120.0" in report
    assert "Failures" not in report


def test_failures_with_two_causes_are_two_lines_and_rare_causes_share_one():
    causes = [Cause(kind=Outcome.EXCEPTION, n=9 - n, task_id=f"t{n}", reason=f"Error: {n}") for n in range(7)]
    causes += [Cause(kind=Outcome.EXIT, n=1, task_id="t9", reason="Exit: code 1")]
    failures = {Outcome.EXCEPTION: 2042, Outcome.EXIT: 1}
    report = text.final_report(make_status(failed=2043, failures=failures, causes=causes), now=1030.0)
    assert report.split("Failures:\n")[1].split("\n\n")[0].splitlines() == [
        "       9 exception   for example t0: Error: 0",
        "       8 exception   for example t1: Error: 1",
        "       7 exception   for example t2: Error: 2",
        "       6 exception   for example t3: Error: 3",
        "       5 exception   for example t4: Error: 4",
        "       7 exception   other causes",
        "   2,000 exception   not examined",
        "       1 exit        for example t9: Exit: code 1",
        "uv run poe tasks --state failed lists them.",
    ]


def test_running_is_what_slots_execute_and_prefetched_tasks_are_apart():
    def worker(slots, leased, manager=""):
        times = {"started_at": 1000.0, "seen_at": 1029.0}
        whose = {"manager_id": len(manager), "manager": manager}
        return WorkerRecord(worker_id=slots, hostname="host", pid=17, slots=slots, leased=leased, **times, **whose)

    status = make_status(running=21, pending=79, workers=[worker(2, 18), worker(4, 3, "gpu")])
    counts = {"waiting": 0, "pending": 79, "running": 5, "prefetched": 16, "succeeded": 0, "failed": 0, "killed": 0}
    assert status.to_json()["counts"] == status.shown_counts == counts
    report = text.status_report(status, now=1030.0)
    assert "  pending     79\n  running      5\n  prefetched  16\n" in report
    assert "  host (pid 17): 2 slots, 2 running, 16 prefetched, last heartbeat 1.0 s ago" in report
    assert "  host (pid 17, manager gpu): 4 slots, 3 running, 0 prefetched, last heartbeat 1.0 s ago" in report
    assert "  Running: 5\n  Prefetched: 16\n" in text.final_report(status, now=1030.0)


def test_a_job_that_is_over_has_a_start_and_an_end():
    assert "\nStarted 1970-01-01 00:16:40 UTC, ended 1970-01-01 00:17:40 UTC" in text.status_report(
        make_status(succeeded=3, is_over=True), now=5000.0
    )


def test_the_status_report_lists_the_states_and_what_went_wrong():
    status = make_status(
        succeeded=1,
        pending=1000,
        failed=1,
        failures={Outcome.TIMEOUT: 1},
        causes=[Cause(kind=Outcome.TIMEOUT, n=1, task_id="t1", reason="Timeout: x")],
        duplicates=1,
    )
    assert text.status_report(status, now=1030.0).splitlines() == [
        "Job job: 2 of 1,002 tasks done (0 %), 1 failed",
        "",
        "  pending    1,000",
        "  running        0",
        "  succeeded      1",
        "  failed         1",
        "",
        "Started 1970-01-01 00:16:40 UTC",
        "",
        "Failures:",
        "       1 timeout     for example t1: Timeout: x",
        "",
        "Retries: 0   lost with their worker: 0   duplicate results ignored: 1",
    ]


def test_different_versions_of_the_library_are_shown_and_one_version_is_not():
    status = make_status(pending=3)
    one = LibraryVersions(job="0.2.0", workers={"0.2.0": 3}, machines={})
    mixed = LibraryVersions(job="0.2.0", workers={"0.1.0": 2, "0.2.0": 1}, machines={"": 1})
    assert "Versions" not in text.status_report(replace(status, versions=one), 0.0)
    assert text.status_report(replace(status, versions=mixed), 0.0).endswith(
        "Versions of the library differ: the ledger was last updated by 0.2.0, 2 workers with 0.1.0, 1 worker with 0.2.0, "
        "1 machine with an unknown version."
    )
