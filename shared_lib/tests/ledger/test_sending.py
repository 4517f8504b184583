"""What the ledger sends to a service queue: every task that has not ended, once, and nothing that has."""

import itertools
import json

import pytest
from taskfleet.ledger import calls, counters, insertion, leasing, moving, queries, recording, repair, sending
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call
from taskfleet.ledger.database import create
from taskfleet.ledger.edges import Needs
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


class Graph(Job):
    """The same with a map, a map over it, and a reduce; ``a0`` and ``b0`` are the first of the maps."""

    N = 12

    def __init__(self, folder, place):
        super().__init__(folder, place)
        self.function = calls.register_function(self.database, "task:f")
        first = [Call(f"a{n}", json.dumps({"n": n}), self.function) for n in range(self.N)]
        a = calls.insert_calls(self.database, first).seqs
        second = [Call(f"b{n}", f'{{"x":{{"$task":"a{n}"}}}}', self.function) for n in range(self.N)]
        b = calls.insert_calls(self.database, second, pairs=a).seqs
        calls.register_map(self.database, "m", [(b[0], b[-1])])
        reduce = Call("sum", '{"xs":{"$results":"m"}}', self.function, (Parents(b[0], b[-1]),))
        calls.insert_calls(self.database, [reduce])

    def send(self):
        """Send what is to be sent; return the data by id."""
        expected, sent = sending.count_unsent(self.database), []
        sending.send_all(self.database, sent.extend)
        assert len(sent) == expected
        assert sending.count_unsent(self.database) == 0
        assert {task.function for task in sent} <= {"task:f"}
        return {task.task_id: json.loads(task.data) for task in sent}

    def succeed(self, *ids):
        self.run(**dict.fromkeys(ids, Outcome.SUCCEEDED))

    def layer(self, name):
        return [f"{name}{n}" for n in range(self.N)]


@pytest.fixture
def graph(tmp_path, request):
    made = Graph(tmp_path, request.param)
    yield made
    made.database.close()


@pytest.mark.parametrize("graph", PLACES[1:2], indirect=True)
def test_tasks_of_a_graph_are_sent_once_their_parents_have_succeeded_with_their_results(graph):
    assert graph.send() == {f"a{n}": {"n": n} for n in range(12)}
    assert graph.send() == {}
    graph.succeed("a0", "a1")
    graph.run(a2=None, a3="later", a4=Outcome.EXCEPTION)
    assert graph.send() == {"b0": {"x": 1}, "b1": {"x": 1}}
    graph.succeed(*graph.layer("a")[2:], *graph.layer("b")[:2])
    assert graph.send() == {f"b{n}": {"x": 1} for n in range(2, 12)}
    graph.succeed(*graph.layer("b")[2:])
    assert graph.send() == {"sum": {"xs": [1] * 12}}
    assert counters.by_state(graph.database)[State.WAITING] == 0


@pytest.mark.parametrize("graph", PLACES[1:2], indirect=True)
def test_a_task_whose_parent_failed_is_sent_once_the_parent_succeeded_after_a_retry(graph):
    graph.send()
    graph.run(a0=Outcome.EXCEPTION)
    assert graph.send() == {}
    assert repair.retry(graph.database, ids=["a0"]) == 1
    assert list(graph.send()) == ["a0"]
    graph.succeed(*graph.layer("a"))
    assert sorted(graph.send()) == sorted(graph.layer("b"))


@pytest.mark.parametrize(("graph", "target"), PAIRS, indirect=["graph"], ids=[f"{a[:6]}-{b[:6]}" for a, b in PAIRS])
def test_a_move_in_the_middle_of_a_graph_sends_what_is_pending_and_never_what_waits(graph, target):
    if graph.place != "ledger":
        graph.send()
    graph.succeed("a0", "a1", "a2")
    if graph.place != "ledger":
        assert sorted(graph.send()) == ["b0", "b1", "b2"]
    graph.run(b0=Outcome.SUCCEEDED, b1=None, a3=Outcome.EXCEPTION)
    pending = {task.task_id: task for batch in sending.pending(graph.database) for task in batch}
    assert sorted(pending) == sorted(["b2", *graph.layer("a")[4:]])  # as poe copy_queue sends
    assert (pending["b2"].data, pending["b2"].function) == ('{"x":1}', "task:f")
    moving.move(graph.database, None if target == "ledger" else target)
    got = graph.leasable() if target == "ledger" else list(graph.send())
    assert sorted(got) == sorted(["b1", "b2", *graph.layer("a")[4:]])


@pytest.mark.parametrize("graph", PLACES[1:2], indirect=True)
def test_a_purge_kills_what_waits_and_a_retry_sends_only_what_is_pending(graph):
    graph.send()
    graph.succeed("a0")
    repair.purge(graph.database)
    assert graph.send() == {}
    assert counters.by_state(graph.database)[State.KILLED] == 24
    repair.retry(graph.database, killed=True)
    assert sorted(graph.send()) == sorted(["b0", *graph.layer("a")[1:]])


@pytest.mark.parametrize("graph", PLACES[1:2], indirect=True)
def test_what_is_released_while_others_are_sent_is_sent_too(graph):
    """Another process records events between the sending of a batch and the note of it."""
    graph.succeed("a11")
    sent = []

    def send(tasks):
        if not sent:
            graph.succeed("a0", "a1")  # earlier numbers than that of b11
        sent.extend(task.task_id for task in tasks)

    sending.send_all(graph.database, send)
    assert sorted(sent) == sorted([*graph.layer("a")[:11], "b0", "b1", "b11"])


@pytest.mark.parametrize("graph", PLACES[1:2], indirect=True)
def test_a_task_that_ran_and_was_put_back_while_its_batch_was_sent_is_sent_again(graph):
    graph.send()
    graph.succeed("a0")
    batches = []

    def send(tasks):
        batches.append([task.task_id for task in tasks])
        if len(batches) == 1:
            graph.run(b0=Outcome.EXCEPTION)
            repair.retry(graph.database, ids=["b0"])

    sending.send_all(graph.database, send)
    assert batches == [["b0"], ["b0"]]


@pytest.mark.parametrize("graph", PLACES[1:2], indirect=True)
def test_batches_are_limited_by_what_the_data_take_once_they_are_filled(graph, monkeypatch):
    monkeypatch.setattr(sending, "STEP_CHARACTERS", 20 + 2 * len('{"x":{"$task":"a00"}}'))
    batches = []
    sending.send_all(graph.database, batches.append)
    assert [len(batch) for batch in batches] == [2] * 6  # with chains
    monkeypatch.setattr(sending, "STEP_CHARACTERS", 20)
    assert [len(batch) for batch in sending.pending(graph.database)] == [2] * 6


@pytest.mark.parametrize("graph", PLACES[1:2], indirect=True)
def test_a_task_that_runs_while_its_parent_is_retried_is_counted_once(graph):
    """Its next attempt is in the queue already: its worker has sent it."""
    [late] = calls.insert_calls(
        graph.database, [Call("late", '{"xs":{"$succeeded":"m"}}', graph.function, (Parents(13, 24, Needs.END),))]
    ).seqs
    graph.send()
    graph.succeed(*graph.layer("a"))
    graph.send()
    graph.succeed(*graph.layer("b")[1:])
    graph.run(b0=Outcome.EXCEPTION)
    assert graph.send() == {"late": {"xs": [1] * 11}}
    graph.run(late=None)
    repair.retry(graph.database, ids=["b0"])
    graph.send()
    graph.run(late="later")
    graph.run(b0=Outcome.SUCCEEDED)
    assert graph.database.row("SELECT missing FROM state WHERE seq = ?", (late,)) == (0,)
    assert sum(counters.by_state(graph.database).values()) == 26
    counted = {int(state): n for state, n in counters.by_state(graph.database).items() if n}
    assert counted == dict(graph.database.rows("SELECT state, count(*) FROM state GROUP BY state"))
    assert sorted(graph.send()) == ["late", "sum"]
