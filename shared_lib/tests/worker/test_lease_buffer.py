"""Which leases count towards the maximum number of tasks, and which go to a slot together."""

import pytest
from taskfleet.queues.embedded import EmbeddedQueue
from taskfleet.settings import Settings
from taskfleet.worker.lease_buffer import LeaseBuffer
from taskfleet.worker.observers import Observers
from taskfleet.worker.prefetch import Prefetch

from shared_lib.tests.ledger.conftest import job, new_job  # noqa: F401


@pytest.fixture
def buffer(job):  # noqa: F811
    """The leases of a worker that may do two of five tasks."""
    job.insert(5)
    settings = Settings(max_tasks=2)
    queue = EmbeddedQueue(job.database, settings, slots=2, now=0.0)
    return LeaseBuffer(queue, Prefetch(slots=2, tasks_per_process=1), settings, Observers([]))


def fill(buffer):
    """Lease what may be leased; return the keys."""
    buffer.ask_again()
    buffer.fill(idle_slots=2, is_idle=False)
    return [lease.key for lease in buffer.take(9)]


def test_a_started_task_counts(buffer):
    assert len(fill(buffer)) == 2
    assert buffer.has_ended
    assert fill(buffer) == []


def test_a_task_that_is_cancelled_before_it_starts_does_not_count(buffer):
    buffer.fill(idle_slots=2, is_idle=False)
    key = buffer.next_key
    assert [lease.key for lease in buffer.remove({key})] == [key]
    assert not buffer.has_ended
    assert len(buffer.take(9)) == 1
    assert len(fill(buffer)) == 1
    assert buffer.has_ended


def test_a_task_that_is_given_back_does_not_count(buffer):
    buffer.fill(idle_slots=2, is_idle=False)
    buffer.release()
    buffer.give_back()
    assert not buffer.has_ended
    assert len(fill(buffer)) == 2
    assert buffer.has_ended


def test_a_task_of_several_slots_is_taken_alone(job):  # noqa: F811
    """Of five tasks, the third takes three slots."""
    job.insert(5)
    queue = EmbeddedQueue(job.database, Settings(), slots=9, now=0.0)
    buffer = LeaseBuffer(
        queue,
        Prefetch(slots=9, tasks_per_process=1),
        Settings(),
        Observers([]),
        width_of=lambda lease: 3 if lease.seq == 3 else 1,
    )
    buffer.fill(idle_slots=9, is_idle=False)
    taken = []
    while buffer.next_key is not None:
        width = buffer.next_width
        taken.append((width, [lease.seq for lease in buffer.take(9)]))
    assert taken == [(1, [1, 2]), (3, [3]), (1, [4, 5])]
