"""Figures in words."""

from dataclasses import replace

import pytest
from taskfleet.ledger.counters import Durations
from taskfleet.ledger.queries import LibraryVersions
from taskfleet.tasks import FAILURE_KINDS, Outcome, State
from taskfleet.text import columns
from taskfleet.watch import text
from taskfleet.watch.status import Status


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.00123, "0.0012 s"),
        (0.354, "0.35 s"),
        (0.999, "1 s"),
        (1, "1.0 s"),
        (9.94, "9.9 s"),
        (42.4, "42 s"),
        (59.4, "59 s"),
        (59.6, "1m 00s"),
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
        (1, "1.0/s"),
        (0.5, "30.0/min"),
        (1 / 60, "1.0/min"),
        (1 / 61, "59.0/h"),
        (1 / 3600, "1.0/h"),
    ],
)
def test_a_rate_in_a_unit_that_makes_it_readable(per_second, words):
    assert text.rate(per_second) == words


def test_columns_are_aligned_and_the_last_is_left_as_it_is():
    rows = [("t1", "failed (exit)", "2", "a reason, however long"), ("a-longer-id", "pending", "0", "")]
    assert columns(rows, ("task", "state", "attempts", "reason")).splitlines() == [
        "task         state          attempts  reason",
        "t1           failed (exit)  2         a reason, however long",
        "a-longer-id  pending        0",
    ]
    assert columns([], ("a", "b")) == "a  b"


def make_status(*, rate=None, eta=None, durations=None, failures=(), examples=None, **counts):
    numbers = {state: counts.pop(state.word, 0) for state in State}
    figures = {"duplicates": 0, "retries": 0, "lost": 0, "spot_terminations": 0} | counts
    return Status(
        job_id="job",
        total=sum(numbers.values()),
        counts=numbers,
        failures=dict.fromkeys(FAILURE_KINDS, 0) | dict(failures),
        examples=examples or {},
        rate_per_second=rate,
        eta_seconds=eta,
        durations=durations,
        workers=[],
        began_at=1000.0,
        last_end_at=1060.0,
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
        examples={Outcome.EXIT: ("t7", "Exit: x")},
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


def test_the_status_report_lists_the_states_and_what_went_wrong():
    status = make_status(
        succeeded=1,
        pending=1000,
        failed=1,
        failures={Outcome.TIMEOUT: 1},
        examples={Outcome.TIMEOUT: ("t1", "Timeout: x")},
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
