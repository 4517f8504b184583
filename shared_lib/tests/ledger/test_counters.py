"""Counts, durations and rates."""

import math
import statistics
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from taskfleet.ledger import counters
from taskfleet.tasks import FAILURE_KINDS, Outcome, State

SECONDS = st.floats(min_value=1e-6, max_value=1e7)


@pytest.fixture
def record(job):
    """Takes batches of durations into emptied statistics and gives what is made of them."""

    def record(batches):
        with job.database.transaction() as database:
            database.execute("DELETE FROM duration")
            database.execute("DELETE FROM duration_moments")
            for batch in batches:
                counters.add_durations(database, batch)
        return counters.durations(job.database)

    return record


def nearest_rank(values, share):
    return sorted(values)[math.ceil(share * len(values)) - 1]


@given(batches=st.lists(st.lists(SECONDS, max_size=60), min_size=1, max_size=5).filter(any))
@example(batches=[[1e-6]])
@example(batches=[[1.0] * 19 + [100.0], [50.0]])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_durations_are_right(record, batches):
    values = [value for batch in batches for value in batch]
    found = record(batches)
    assert (found.n, found.low, found.high) == (len(values), min(values), max(values))
    assert found.mean == pytest.approx(statistics.fmean(values), rel=1e-12)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    assert found.standard_deviation == pytest.approx(deviation, rel=1e-7, abs=1e-7 * found.mean)
    assert found.median == pytest.approx(nearest_rank(values, Fraction(1, 2)), rel=0.011)
    assert found.percentile_90 == pytest.approx(nearest_rank(values, Fraction(9, 10)), rel=0.011)
    assert found.percentile_95 == pytest.approx(nearest_rank(values, Fraction(19, 20)), rel=0.011)


def test_percentiles_are_told_apart(record):
    found = record([[float(n) for n in range(1, 1001)]])
    assert found.median == pytest.approx(500, rel=0.011)
    assert found.percentile_90 == pytest.approx(900, rel=0.011)
    assert found.percentile_95 == pytest.approx(950, rel=0.011)
    assert found.mean == 500.5


def test_a_small_spread_about_a_large_mean_is_not_lost(record):
    values = [1e6 + n * 1e-3 for n in range(100)]
    found = record([values[:1], values[1:40], values[40:]])
    assert found.standard_deviation == pytest.approx(statistics.stdev(values), rel=1e-4)


def test_a_duration_of_zero_is_counted(record):
    found = record([[0.0, 0.0, 0.0]])
    assert (found.n, found.low, found.high, found.median) == (3, 0.0, 0.0, 0.0)


def test_percentiles_stay_between_the_shortest_and_the_longest(record):
    for seconds in (0.0123, 1.0, 3600.0):
        found = record([[seconds]])
        assert (found.median, found.percentile_90, found.percentile_95) == (seconds,) * 3


def test_there_are_no_durations_before_the_first_success(job, done):
    job.insert(2)
    worker_id = job.worker()
    first, second = job.lease(worker_id, 2)
    job.finish(worker_id, done(first, Outcome.MEMORY, elapsed_seconds=9.0))
    assert counters.durations(job.database) is None
    job.finish(worker_id, done(second, elapsed_seconds=3.0))
    assert counters.durations(job.database).mean == 3.0


def test_the_rate_counts_what_ended_in_the_window(job):
    def rate(now):
        return counters.rate_per_second(job.database, now, window_seconds=60)

    assert rate(1000.0) is None
    counters.add_finished(job.database, 30, 1000.2)
    assert rate(1000.2) == 30.0
    assert rate(1010.0) == 3.0
    counters.add_finished(job.database, 20, 1010.9)
    assert rate(1020.0) == 2.5
    assert rate(1059.0) == pytest.approx(50 / 59)
    assert rate(1060.0) == pytest.approx(20 / 59)
    assert rate(1070.0) is None


def test_a_steady_rate_is_shown_as_it_is(job):
    for second in range(1000, 1301):
        counters.add_finished(job.database, 7, float(second))
    assert counters.rate_per_second(job.database, 1300.99) == pytest.approx(7.0, rel=0.01)
    assert counters.rate_per_second(job.database, 1300.0) == pytest.approx(7.0, rel=0.02)


def test_a_slow_job_does_not_look_fast_when_a_task_has_just_ended(job):
    for second in (1000.0, 1100.0, 1200.0):
        counters.add_finished(job.database, 1, second)
    assert counters.rate_per_second(job.database, 1200.5) == pytest.approx(1 / 60, rel=0.02)
    assert counters.rate_per_second(job.database, 1240.0) == pytest.approx(1 / 60, rel=0.02)


def test_the_first_tasks_of_a_job_count_with_the_time_they_took(job):
    counters.add_finished(job.database, 2, 1010.0)
    for now, window_seconds, seconds in ((1010.0, 100, 10), (1015.0, 100, 15), (1010.0, 5, 4)):
        found = counters.rate_per_second(job.database, now, window_seconds=window_seconds, task_seconds=10.0)
        assert found == pytest.approx(2 / seconds)


def test_what_ended_before_the_workers_started_does_not_count(job):
    counters.add_finished(job.database, 100, 1000.0)
    counters.add_finished(job.database, 4, 1038.0)
    assert counters.rate_per_second(job.database, 1040.0, since=1030.0, task_seconds=2.0) == 1.0
    assert counters.rate_per_second(job.database, 1040.0, since=1039.0) is None


def test_what_ends_in_the_same_second_adds_up(job):
    counters.add_finished(job.database, 2, 5.1)
    counters.add_finished(job.database, 3, 5.9)
    counters.add_finished(job.database, 0, 6.0)
    assert job.database.rows("SELECT * FROM throughput") == [(5, 5)]


def test_an_empty_ledger_has_zeros_of_everything(job):
    assert counters.by_state(job.database) == dict.fromkeys(State, 0)
    assert counters.by_failure_kind(job.database) == dict.fromkeys(FAILURE_KINDS, 0)
    assert counters.tallies(job.database) == {"inserted": 0, "duplicates": 0, "retries": 0, "lost": 0}


def test_failures_are_counted_by_kind(job, done):
    job.insert(5)
    worker_id = job.worker()
    kinds = [Outcome.MEMORY, Outcome.MEMORY, Outcome.EXIT, Outcome.EXIT]
    for lease, kind in zip(job.lease(worker_id, 4), kinds, strict=True):
        job.finish(worker_id, done(lease, kind, retry_delay_seconds=-1.0))
    assert counters.by_failure_kind(job.database) == dict.fromkeys(FAILURE_KINDS, 0) | {
        Outcome.MEMORY: 2,
        Outcome.EXIT: 2,
    }
    assert counters.by_state(job.database) == dict.fromkeys(State, 0) | {State.FAILED: 4, State.PENDING: 1}
