"""Insertions: whole or not at all."""

import signal

import pytest
from taskfleet.errors import InsertError
from taskfleet.ledger import insertion
from taskfleet.ledger.database import Database, open_ledger
from taskfleet.ledger.queries import find_task
from taskfleet.tasks import State


class WaitsError(Exception):
    """Raised instead of waiting for another insertion."""


def add_and_accept(under_way, *arguments, **more):
    add(under_way, *arguments, **more)
    under_way.accept(0.0)


def wait_not(_seconds):
    raise WaitsError


def add(under_way, texts, ids=None, now=0.0, **more):
    """Add tasks under ids derived from their data, or under the given ones."""
    under_way.add(
        ids or [f"id of {text}" for text in texts],
        [f'"{t}"' for t in texts],
        ids_are_derived=ids is None,
        now=now,
        **more,
    )


@pytest.fixture(params=[1, 2, 3, 250_000], autouse=True)
def _entering(request, monkeypatch):
    """Enter the ids of so many tasks at a time; a fault shows when they are entered."""
    monkeypatch.setattr(insertion, "ENTER_ROWS", request.param)


def task_ids(job):
    return [task_id for (task_id,) in job.database.rows("SELECT id FROM task ORDER BY seq")]


def test_an_insertion_of_several_batches_adds_all_tasks_in_order(job):
    under_way = insertion.begin(job.database, source="t")
    add(under_way, "ab")
    add(under_way, "cd")
    assert under_way.rows == 4
    assert under_way.accept(1.0) == insertion.InsertReport(added=4, already_there=0, identical=0)
    assert [(lease.task_id, lease.data) for lease in job.lease(job.worker(), 9)] == [
        (f"id of {x}", f'"{x}"') for x in "abcd"
    ]


def test_a_fault_in_the_third_batch_leaves_nothing(job):
    before = job.dump()
    under_way = insertion.begin(job.database, source="t")
    add(under_way, "ab", ["1", "2"])
    add(under_way, "cd", ["3", "4"])
    with pytest.raises(InsertError, match=r"task_id '1' occurs twice .* in row 2"):
        add_and_accept(under_way, "ef", ["5", "1"])
    under_way.discard()
    assert job.dump() == before
    assert job.counts() == {}


def test_a_fault_leaves_the_tasks_of_earlier_insertions_alone(job):
    job.insert(3)
    before = job.dump()
    under_way = insertion.begin(job.database, source="t")
    add(under_way, "ab")
    under_way.discard()
    assert job.dump() == before


def test_discarding_goes_in_steps_and_takes_everything(job, monkeypatch):
    monkeypatch.setattr(insertion, "CLEAR_ROWS", 2)
    job.insert(3)
    before = job.dump()
    for n in range(6):
        under_way = insertion.begin(job.database, source="t")
        add(under_way, "abcdef"[:n])
        under_way.discard()
        assert job.dump() == before


def test_discarding_after_accepting_changes_nothing(job):
    under_way = insertion.begin(job.database, source="t")
    add(under_way, "ab")
    under_way.accept(0.0)
    before = job.dump()
    under_way.discard()
    assert job.dump() == before


def test_a_batch_that_failed_cannot_be_accepted(job):
    under_way = insertion.begin(job.database, source="t")
    with pytest.raises(InsertError, match="occurs twice"):
        add_and_accept(under_way, "abc", ["1", "2", "1"])
    for _ in range(2):
        with pytest.raises(InsertError, match="earlier batch"):
            under_way.accept(0.0)
        with pytest.raises(InsertError, match="earlier batch"):
            add(under_way, "d")
    under_way.discard()
    assert job.states() == {}


def test_tasks_are_invisible_until_accepted(job):
    under_way = insertion.begin(job.database, source="t")
    add(under_way, "ab")
    elsewhere = job.connect()
    worker_id = job.worker()
    assert job.lease(worker_id, 9) == []
    assert job.counts() == {}
    assert find_task(elsewhere, "id of a") is None
    under_way.accept(0.0)
    assert job.counts() == {State.PENDING: 2}
    assert find_task(elsewhere, "id of a") is not None
    assert len(job.lease(worker_id, 9)) == 2


def test_the_same_table_again_adds_nothing_and_says_so(job):
    assert job.insert(5).added == 5
    assert job.insert(5) == insertion.InsertReport(added=0, already_there=5, identical=0)
    assert job.insert(7) == insertion.InsertReport(added=2, already_there=5, identical=0)
    assert job.counts() == {State.PENDING: 7}
    assert [lease.data for lease in job.lease(job.worker(), 9)] == [f'{{"x": {n}}}' for n in range(7)]


def test_the_same_table_with_given_ids_adds_nothing(job):
    assert job.insert(["1", "2"], ["a", "b"]).added == 2
    assert job.insert(["1", "2", "3"], ["a", "b", "c"]) == insertion.InsertReport(added=1, already_there=2, identical=0)


def test_a_given_id_twice_is_refused_with_its_row(job):
    under_way = insertion.begin(job.database, source="t")
    add(under_way, "ab", ["1", "2"])
    with pytest.raises(InsertError, match=r"task_id '2' occurs twice .* in row 1,004"):
        add_and_accept(under_way, "cd", ["3", "2"], row_number=lambda index: 1003 + index)
    under_way.discard()


def test_a_given_id_twice_in_one_batch_is_refused_even_with_the_same_data(job):
    under_way = insertion.begin(job.database, source="t")
    with pytest.raises(InsertError, match="in row 3"):
        add_and_accept(under_way, "aba", ["1", "2", "1"])
    under_way.discard()


def test_a_known_id_with_other_data_is_refused(job):
    job.insert(["1"], ["a"])
    under_way = insertion.begin(job.database, source="t")
    long = "l" * 1000
    with pytest.raises(
        InsertError, match=r"task_id 'a' is in this job already with other data: 1 in the job, \"l+… in row 2\."
    ) as e:
        add_and_accept(under_way, ["1", long], ["b", "a"])
    assert len(str(e.value)) < 500
    under_way.discard()
    assert find_task(job.database, "a").data == "1"


def test_identical_rows_are_tasks_of_their_own(job):
    report = job.insert(["a", "b", "a", "a"])
    assert report == insertion.InsertReport(added=4, already_there=0, identical=2)
    assert task_ids(job) == ["id of a", "id of b", "id of a-2", "id of a-3"]


def test_identical_rows_are_found_across_batches(job):
    under_way = insertion.begin(job.database, source="t")
    for batch in ("ab", "ba", "aa"):
        add(under_way, batch)
    assert under_way.accept(0.0) == insertion.InsertReport(added=6, already_there=0, identical=4)
    assert task_ids(job) == [f"id of {end}" for end in ("a", "b", "b-2", "a-2", "a-3", "a-4")]


def test_identical_rows_again_add_nothing(job):
    job.insert(["a", "b", "a", "a"])
    assert job.insert(["a", "b", "a", "a"]) == insertion.InsertReport(added=0, already_there=4, identical=2)
    assert job.insert(["a"] * 5) == insertion.InsertReport(added=2, already_there=3, identical=4)
    assert task_ids(job) == [f"id of {end}" for end in ("a", "b", "a-2", "a-3", "a-4", "a-5")]


def test_rows_that_are_there_already_stand_among_new_ones(job):
    job.insert(["b", "d"])
    assert job.insert(["a", "b", "b", "c", "d"]) == insertion.InsertReport(added=3, already_there=2, identical=1)
    assert task_ids(job) == [f"id of {end}" for end in ("b", "d", "a", "b-2", "c")]
    assert [lease.data for lease in job.lease(job.worker(), 9)] == ["b", "d", "a", "b", "c"]


def test_given_and_derived_ids_can_follow_each_other(job):
    under_way = insertion.begin(job.database, source="t")
    add(under_way, "aa")
    add(under_way, "bc", ["1", "2"])
    add(under_way, "a")
    assert under_way.accept(0.0) == insertion.InsertReport(added=5, already_there=0, identical=2)
    assert task_ids(job) == ["id of a", "id of a-2", "1", "2", "id of a-3"]


def test_a_task_is_found_by_its_id_however_it_came(job):
    job.insert(["a", "b", "a"])
    job.insert(["1", "2"], ["x", "y"])
    for task_id, data in [("id of a", "a"), ("id of a-2", "a"), ("id of b", "b"), ("x", "1"), ("y", "2")]:
        assert find_task(job.database, task_id).data == data


def test_two_insertions_over_one_connection_count_identical_rows_apart(job):
    job.insert(["a", "a"])
    job.insert(["b", "a"])
    assert task_ids(job) == ["id of a", "id of a-2", "id of b"]


def test_an_insertion_waits_for_another(job):
    first = insertion.begin(job.database, source="t", clock=lambda: 0.0)
    add(first, "ab")
    elsewhere, waited, told = job.connect(), [], []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            first.accept(0.0)

    second = insertion.begin(elsewhere, source="t", clock=lambda: 599.0, sleep=sleep, on_wait=told.append)
    add(second, "bc")
    assert second.accept(0.0) == insertion.InsertReport(added=1, already_there=1, identical=0)
    assert waited == [insertion.POLL_SECONDS] * 3
    assert len(told) == 1
    assert [lease.task_id for lease in job.lease(job.worker(), 9)] == ["id of a", "id of b", "id of c"]


@pytest.mark.parametrize("batches", [0, 1])
def test_no_rows_are_accepted_as_nothing(job, batches):
    for _ in range(2):
        under_way = insertion.begin(job.database, source="t")
        for _ in range(batches):
            add(under_way, "")
        assert under_way.rows == 0
        assert under_way.accept(0.0) == insertion.InsertReport(added=0, already_there=0, identical=0)
    assert job.lease(job.worker(), 9) == []
    assert job.insert(2).added == 2


def test_accepting_twice_is_refused_and_changes_nothing(job):
    under_way = insertion.begin(job.database, source="t")
    add(under_way, "ab")
    under_way.accept(0.0)
    with pytest.raises(InsertError):
        under_way.accept(0.0)
    with pytest.raises(InsertError):
        add(under_way, "c")
    assert job.counts() == {State.PENDING: 2}


@pytest.mark.parametrize("clear_rows", [2, 100_000])
def test_what_a_killed_inserter_left_is_cleared_and_never_leased(job, fork, die, monkeypatch, clear_rows):
    monkeypatch.setattr(insertion, "CLEAR_ROWS", clear_rows)
    job.insert(["kept"])
    job.close()

    def insert_half():
        under_way = insertion.begin(open_ledger(job.path, job_id="job"), source="t")
        add(under_way, "abc")
        add(under_way, "de")
        die()

    assert fork(lambda _tell: insert_half()).wait() == -signal.SIGKILL
    assert len(task_ids(job)) == 6
    assert [lease.seq for lease in job.lease(job.worker(), 9)] == [1]
    second = insertion.begin(job.database, source="t", sleep=wait_not)
    assert task_ids(job) == ["id of kept"]
    add(second, "cx")
    assert second.accept(0.0).added == 2
    assert [lease.task_id for lease in job.lease(job.worker(), 9)] == ["id of c", "id of x"]


def test_a_live_inserter_is_waited_for_and_not_cleared(job, fork, live_on):
    def insert_half(tell):
        under_way = insertion.begin(open_ledger(job.path, job_id="job"), source="t", clock=lambda: 0.0)
        add(under_way, "abc")
        tell()
        live_on()

    child = fork(insert_half)
    assert child.told()
    with pytest.raises(WaitsError):
        insertion.begin(job.database, source="t", clock=lambda: 600.0, sleep=wait_not)
    assert len(task_ids(job)) == 3
    child.kill()
    insertion.begin(job.database, source="t", clock=lambda: 0.0, sleep=wait_not)
    assert task_ids(job) == []


def test_an_inserter_that_adds_now_and_then_is_not_taken_for_dead(job):
    first = insertion.begin(job.database, source="t", clock=lambda: 0.0)
    add(first, "a", now=500.0)
    with pytest.raises(WaitsError):
        insertion.begin(job.connect(), source="t", clock=lambda: 1100.0, sleep=wait_not)
    add(first, "b", now=1100.0)
    assert first.accept(1100.0).added == 2


@pytest.mark.parametrize("act", ["add", "accept"])
@pytest.mark.parametrize("successor", ["under way", "accepted", "discarded"])
def test_an_inserter_that_was_taken_for_dead_is_refused(job, act, successor):
    first = insertion.begin(job.database, source="t", clock=lambda: 0.0)
    add(first, "ab")
    second = insertion.begin(job.connect(), source="t", clock=lambda: 601.0, sleep=wait_not)
    add(second, "x", now=601.0)
    if successor == "accepted":
        second.accept(601.0)
    if successor == "discarded":
        second.discard()
    before = job.dump()
    with pytest.raises(InsertError, match="as dead"):
        add(first, "c") if act == "add" else first.accept(602.0)
    first.discard()
    assert job.dump() == before
    if successor == "under way":
        assert second.accept(601.0).added == 1
        assert [lease.task_id for lease in job.lease(job.worker(), 9)] == ["id of x"]


@pytest.mark.parametrize("act", ["add", "accept"])
def test_an_inserter_is_refused_while_it_is_being_cleared(job, act, monkeypatch):
    class Interrupted(Database):
        """Fails at the third transaction: between two steps of the clearing."""

        left = 2

        def transaction(self):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return super().transaction()

    monkeypatch.setattr(insertion, "CLEAR_ROWS", 2)
    first = insertion.begin(job.database, source="t", clock=lambda: 0.0)
    add(first, "abcde")
    elsewhere = job.connect()
    with pytest.raises(KeyboardInterrupt):
        insertion.begin(Interrupted(job.path, elsewhere._connection), source="t", clock=lambda: 601.0, sleep=wait_not)
    assert len(task_ids(job)) == 3
    with pytest.raises(InsertError, match="as dead"):
        add(first, "c") if act == "add" else first.accept(602.0)
    insertion.begin(job.database, source="t", clock=lambda: 1300.0, sleep=wait_not).discard()
    assert task_ids(job) == []
