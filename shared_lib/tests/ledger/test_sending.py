"""What the ledger sends to a service queue: every task that has not ended, once, and nothing that has."""

import itertools

import pytest
from taskfleet.ledger import counters, insertion, leasing, moving, queries, recording, repair, sending
from taskfleet.ledger.database import create
from taskfleet.ledger.small_insertion import insert_few
from taskfleet.messages.events import Batch, Worker
from taskfleet.processes.identity import identity
from taskfleet.tasks import Finished, Outcome, RetryPolicy, State

NOW = 1000.0
PLACES = ("ledger", "sqs://one", "pubsub://two", "postgresql://h/three")
PAIRS = [pair for pair in itertools.product(PLACES, PLACES) if pair[0] != pair[1]]


class Job:
    """A ledger whose tasks are in a service queue, or in the ledger itself."""

    def __init__(self, folder, place):
        self.database = create(folder / "job.db", job_id="job", project=folder, now=NOW)
        self.place = place
        self._numbers = itertools.count()
        if place != "ledger":
            self.database.execute("UPDATE job SET queue_url = ?", (place,))

    def insert(self, *ids):
        under_way = insertion.begin(self.database, source="test")
        under_way.add(ids, ["{}"] * len(ids), ids_are_derived=False, now=NOW)
        under_way.accept(NOW)

    def insert_singly(self, *ids):
        insert_few(self.database, ids, ["{}"] * len(ids))

    def seq(self, task_id):
        return queries.find_task(self.database, task_id).seq

    def run(self, **outcomes):
        """Have tasks run, each to its outcome: an ``Outcome``, ``None`` for one that still runs, or ``"later"`` for a retry that is due."""
        if self.place == "ledger":
            self._run_here(outcomes)
        else:
            self._run_elsewhere(outcomes)

    def _run_here(self, outcomes):
        worker_id = leasing.register(
            self.database, process=identity(), hostname="h", pid=1, slots=9, lease_seconds=99, now=NOW
        )
        leases = leasing.lease(self.database, worker_id, 99, skip=0, lease_seconds=99, now=NOW)
        by_id = {lease.task_id: lease for lease in leases}
        leasing.give_back(self.database, worker_id, [one for name, one in by_id.items() if name not in outcomes])
        for name, outcome in outcomes.items():
            if outcome is None:
                continue
            lease = by_id[name]
            retries = {Outcome.EXCEPTION: 1} if outcome == "later" else {}
            policy = RetryPolicy(retries=retries, delay_seconds=500.0, max_delay_seconds=500.0)
            leasing.finish(
                self.database, worker_id, [finished(lease.seq, lease.attempt, outcome)], policy=policy, now=NOW
            )

    def _run_elsewhere(self, outcomes):
        seqs = {name: self.seq(name) for name in outcomes}
        ended = [
            (finished(seqs[name], 1, outcome), 500.0 if outcome == "later" else None)
            for name, outcome in outcomes.items()
            if outcome is not None
        ]
        worker = Worker(source="worker|elsewhere", hostname="h", pid=1, slots=2, started_at=NOW)
        for what in ({"leased": [(seq, 1) for seq in seqs.values()]}, {"ended": ended}):
            batch = {"leased": [], "returned": [], "ended": []} | what
            number = next(self._numbers)
            recording.record(
                self.database,
                Batch(
                    job_id="job",
                    ledger="",
                    worker=worker,
                    number=number,
                    reported_at=NOW + number,
                    end_reason="",
                    **batch,
                ),
                now=NOW,
            )

    def send(self):
        """Send what is to be sent; return the ids."""
        expected, sent = sending.count_unsent(self.database), []
        sending.send_all(self.database, lambda tasks: sent.extend(task.task_id for task in tasks))
        assert len(sent) == expected
        assert sending.count_unsent(self.database) == 0
        return sent

    def leasable(self):
        """Lease all that is pending here; return the ids."""
        worker_id = leasing.register(
            self.database, process="next", hostname="h", pid=2, slots=9, lease_seconds=99, now=NOW + 1e6
        )
        ids = []
        while leases := leasing.lease(self.database, worker_id, 3, skip=0, lease_seconds=99, now=NOW + 1e6):
            ids += [lease.task_id for lease in leases]
        return ids


def finished(seq, attempt, outcome):
    outcome = Outcome.EXCEPTION if outcome == "later" else outcome
    good = outcome is Outcome.SUCCEEDED
    return Finished(seq, attempt, int(outcome), NOW, 1.0, "1" if good else None, None if good else "error")


@pytest.fixture
def job(tmp_path, request):
    made = Job(tmp_path, request.param)
    yield made
    made.database.close()


@pytest.mark.parametrize(("job", "target"), PAIRS, indirect=["job"], ids=[f"{a[:6]}-{b[:6]}" for a, b in PAIRS])
def test_a_move_sends_what_has_not_ended_and_nothing_else(job, target):
    """Tasks in every state, from a table and inserted singly, from each kind of queue to each other."""
    is_service = job.place != "ledger"
    job.insert("killed")
    job.insert_singly("killed-1")
    repair.purge(job.database)
    job.insert("done", "failed", "running", "later", "fresh")
    job.insert_singly("done-1", "failed-1", "running-1", "later-1", "fresh-1")
    if is_service:
        assert len(job.send()) == 10
    outcomes = {"done": Outcome.SUCCEEDED, "failed": Outcome.EXCEPTION, "running": None, "later": "later"}
    job.run(**{f"{name}{end}": outcome for name, outcome in outcomes.items() for end in ("", "-1")})
    before = counters.by_state(job.database)
    assert before == {
        State.WAITING: 0,
        State.PENDING: 4,
        State.RUNNING: 2,
        State.SUCCEEDED: 2,
        State.FAILED: 2,
        State.KILLED: 2,
    }
    moving.move(job.database, None if target == "ledger" else target)
    got = job.leasable() if target == "ledger" else job.send()
    assert sorted(got) == sorted(f"{name}{end}" for name in ("running", "later", "fresh") for end in ("", "-1"))
    after = counters.by_state(job.database)
    assert [after[state] for state in (State.SUCCEEDED, State.FAILED, State.KILLED)] == [2, 2, 2]


@pytest.mark.parametrize("job", PLACES[1:], indirect=True)
def test_a_queue_that_was_lost_gets_again_what_has_not_ended(job):
    job.insert(*(f"t{n}" for n in range(10)))
    assert len(job.send()) == 10
    job.run(t3=Outcome.SUCCEEDED, t4=Outcome.EXCEPTION, t5=None, t6="later")
    moving.move(job.database, job.place)  # as poe release does
    assert sorted(job.send()) == ["t0", "t1", "t2", "t5", "t6", "t7", "t8", "t9"]


@pytest.mark.parametrize("job", PLACES[1:], indirect=True)
def test_from_service_to_service_and_back_nothing_is_sent_that_has_ended(job):
    job.insert(*(f"t{n}" for n in range(6)))
    ended = set()
    for step, target in enumerate([*PLACES[1:], job.place]):
        sent = job.send()
        assert ended.isdisjoint(sent)
        assert len(sent) == 6 - len(ended)
        job.run(**{f"t{step}": Outcome.SUCCEEDED})
        ended.add(f"t{step}")
        moving.move(job.database, target)
