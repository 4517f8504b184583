"""Chains of tasks between a ledger, a queue and workers, through any course of events: no task is lost, each edge is released once."""

import json
import random

import pytest
from taskfleet.ledger import (
    arguments,
    calls,
    cancelling,
    chaining,
    checks,
    control,
    counters,
    moving,
    recording,
    repair,
    sending,
)
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call
from taskfleet.ledger.cancelling import Selection
from taskfleet.ledger.database import create
from taskfleet.ledger.edges import Needs
from taskfleet.messages import events, tasks
from taskfleet.messages.events import Batch, EndedAttempt, Worker
from taskfleet.messages.tasks import TaskMessage
from taskfleet.queues.continuing import successor
from taskfleet.tasks import Finished, Outcome, State

#: Rounds in which everything has to come to its end, once nothing goes wrong any more.
ROUNDS = 60
MOST_BYTES = 1 << 20


@pytest.fixture
def new_database(tmp_path):
    """Makes ledgers of jobs with a service queue."""
    made = []

    def new_database():
        database = create(tmp_path / f"{len(made)}.db", job_id="job", project=tmp_path, now=0.0)
        database.execute("UPDATE job SET queue_url = 'sqs://queue'")
        made.append(database)
        return database

    yield new_database
    for database in made:
        database.close()


def insert(database, width=3, depth=4):
    """Insert maps over maps, a reduce of the last one, and a chain behind it; return the ids."""
    function_id = calls.register_function(database, "task:f")
    above, names = [], []
    for level in range(depth):
        of_level = [
            Call(f"{level}-{n}", f'{{"x":{{"$task":"{level - 1}-{n}"}}}}' if level else f'{{"n":{n}}}', function_id)
            for n in range(width)
        ]
        names += [one[0] for one in of_level]
        above = calls.insert_calls(database, of_level, **({"pairs": above} if level else {})).seqs
    calls.register_map(database, "m", [(above[0], above[-1])])
    [reduce] = calls.insert_calls(
        database, [Call("sum", '{"xs":{"$results":"m"}}', function_id, (Parents(above[0], above[-1]),))]
    ).seqs
    [last] = calls.insert_calls(
        database, [Call("sum2", '{"x":{"$task":"sum"},"y":[{"$task":"sum"}]}', function_id, (Parents(reduce, reduce),))]
    ).seqs
    calls.insert_calls(database, [Call("sum3", '{"x":{"$task":"sum2"}}', function_id, (Parents(last, last),))])
    return [*names, "sum", "sum2", "sum3"]


class World:
    """A ledger, the messages of a queue, what workers have taken, and the events that are not recorded yet."""

    def __init__(self, database, seed):
        self.database = database
        self.random = random.Random(seed)
        self.messages = []
        self.taken = []
        """Tasks that workers run, and whether their message is gone: the queue was purged, or they are of an earlier queue."""
        self.events = []
        self.number = 0
        self.times_run = {}

    def send(self):
        """Send what is to be sent; sometimes the sender dies before it has noted that."""

        def deliver(found):
            body = tasks.pack(TaskMessage(job_id="job", ledger="l", tasks=found))
            self.messages += tasks.unpack(body).tasks

        sending.send_all(self.database, deliver)

    def take(self, *, may_stay=True):
        """Have a worker take a message, which sometimes is delivered twice."""
        if not self.messages:
            return
        index = self.random.randrange(len(self.messages))
        task = self.messages[index]
        if not may_stay or self.random.random() < 0.8:
            del self.messages[index]
        self.taken.append([task, True])
        if self.random.random() < 0.5:
            self.tell(leased=[(task.seq, task.next_attempt)])

    def end(self, outcome=None):
        """Have a worker end a task: what follows it is sent, then the event, and sometimes the worker dies in between."""
        if not self.taken:
            return
        task, is_current = self.taken.pop(self.random.randrange(len(self.taken)))
        if outcome is None:
            outcome = self.random.choice([Outcome.SUCCEEDED] * 4 + [Outcome.EXCEPTION, Outcome.INTERRUPTED])
        if task.seq in control.cancelled(self.database) and self.random.random() < 0.7:
            outcome = Outcome.KILLED
        result = json.dumps(f"{task.task_id} {self.random.random()}") if outcome is Outcome.SUCCEEDED else None
        finished = Finished(task.seq, task.next_attempt, outcome, 1.0, 1.0, result, None if result else "no")
        following, delay = successor(task, finished, MOST_BYTES), None
        if following is not None and self.random.random() < 0.1:
            following = None  # a worker that knows no chains
        if outcome is Outcome.INTERRUPTED or (outcome is Outcome.EXCEPTION and task.count_of(outcome) < 2):
            delay = 0.0
            retried = task.after(finished.attempt, outcome if outcome is Outcome.EXCEPTION else None)
        if is_current:
            self.messages += [one for one in (following, retried if delay is not None else None) if one is not None]
        if self.random.random() < 0.1 and is_current:
            self.messages.append(task)  # it died before it told this
            return
        continued = [] if following is None else [(following.seq, following.chain.epoch)]
        self.tell(ended=[EndedAttempt(finished, delay)], continued=continued)

    def tell(self, **what):
        self.number += 1
        worker = Worker(source=f"w{self.random.randrange(3)}", hostname="h", pid=1, slots=1, started_at=0.0)
        batch = Batch(job_id="job", ledger="l", worker=worker, number=self.number, reported_at=2.0, **what)
        self.events.append(events.unpack(events.pack(batch)))

    def record(self):
        """Record some event, sometimes twice, and sometimes much later again."""
        if not self.events:
            return
        batch = self.events.pop(self.random.randrange(len(self.events)))
        for _ in range(self.random.choice([1, 1, 2])):
            recording.record(self.database, batch, now=3.0)

    def release(self):
        moving.send_again(self.database)

    def purge(self):
        repair.purge(self.database)
        self.lose_messages()

    def move(self):
        """Move the tasks to another queue, as the command does: no worker runs, and most events are recorded."""
        if self.taken:
            return
        late = [one for one in self.events if one.continued]
        self.events = [one for one in self.events if not one.continued]
        while self.events:
            self.record()
        self.events = late
        moving.move(self.database, "sqs://other")
        self.lose_messages()

    def lose_messages(self):
        self.messages.clear()
        for one in self.taken:
            one[1] = False

    def some_ids(self):
        names = [name for (name,) in self.database.rows("SELECT id FROM task")]
        return self.random.sample(names, 2)

    def cancel(self):
        cancelling.cancel(self.database, Selection(ids=self.some_ids()))

    def retry(self):
        repair.retry(self.database, kinds=[Outcome.EXCEPTION], killed=True)

    def rerun(self):
        seqs = [seq for (seq,) in self.database.rows("SELECT seq FROM state WHERE state = ?", (State.SUCCEEDED,))]
        if seqs:
            repair.rerun(self.database, [self.random.choice(seqs)], descendants=self.random.random() < 0.5)

    def finish(self):
        """Let everything come to its end; sometimes the ledger is not there for a while."""
        for _ in range(ROUNDS):
            self.retry()
            self.send()
            while self.messages or self.taken:
                self.take(may_stay=False)
                self.end(Outcome.SUCCEEDED)
            while self.events:
                self.record()
            recording.end_silent(self.database, silent_seconds=0.0, now=1e9)
            if self.counts() == {State.SUCCEEDED}:
                return
            assert sending.count_unsent(self.database) or {State.FAILED, State.KILLED} & self.counts(), self.lost()
        raise AssertionError(f"no end: {self.lost()}")

    def counts(self):
        return {state for state, n in counters.by_state(self.database).items() if n}

    def lost(self):
        rows = self.database.rows("SELECT id, state, missing, reuse FROM state JOIN task USING (seq) WHERE state <> 3")
        return f"not done, and nobody does them: {rows}"


USUAL = ["send", "take", "take", "take", "end", "end", "end", "record", "record"]


@pytest.mark.parametrize(
    "rare", [(), ("release",), ("purge",), ("move",), ("cancel", "retry"), ("rerun", "retry")], ids="-".join
)
@pytest.mark.parametrize("part", range(4))
def test_every_task_succeeds_in_the_end_whatever_happens(new_database, rare, part):
    for seed in range(part * 15, part * 15 + 15):
        world = World(new_database(), f"{seed} {rare}")
        names = insert(world.database, width=world.random.choice([1, 3]), depth=world.random.choice([2, 4]))
        for _ in range(world.random.choice([10, 40, 80])):
            getattr(world, world.random.choice(USUAL + list(rare)))()
        world.finish()
        assert [one for one in checks.check(world.database) if not one.is_ok] == [], (seed, rare)
        assert len(names) == counters.by_state(world.database)[State.SUCCEEDED]
        assert world.database.value("SELECT count(*) FROM chained") == 0


# --- what is in a chain ---


@pytest.fixture
def database(new_database):
    return new_database()


def call(database, name, data, *, function="task:f", manager=""):
    """Insert a call; return its number."""
    function_id = calls.register_function(database, function, manager=manager)
    parents = {database.value("SELECT seq FROM task_id WHERE id = ?", (one,)): None for one in arguments.task_ids(data)}
    return calls.insert_calls(
        database, [Call(name, data, function_id, tuple(Parents(seq, seq) for seq in parents))]
    ).seqs[0]


def sent(database):
    """Send what is to be sent; return the chains by id."""
    found = {}
    sending.send_all(
        database, lambda some: found.update({t.task_id: [one.task_id for one in t.chain.tasks] for t in some})
    )
    return found


def ended(database, number, *finished, continued=()):
    worker = Worker(source="w", hostname="h", pid=1, slots=1, started_at=0.0)
    attempts = [
        EndedAttempt(Finished(seq, 1, outcome, 1.0, 1.0, "1" if outcome is Outcome.SUCCEEDED else None), None)
        for seq, outcome in finished
    ]
    batch = Batch(
        job_id="job",
        ledger="l",
        worker=worker,
        number=number,
        reported_at=2.0,
        ended=attempts,
        continued=list(continued),
    )
    recording.record(database, batch, now=3.0)


X = '{{"x":{{"$task":"{}"}}}}'.format


def test_a_chain_ends_at_a_task_with_two_parents_and_at_one_with_two_children(database):
    call(database, "a", "{}")
    call(database, "b", '{"x":[{"$task":"a"},{"y":{"$task":"a"}}]}')
    call(database, "c", X("b"))
    call(database, "d1", X("c"))
    call(database, "d2", X("c"))
    call(database, "e", '{"x":{"$task":"d1"},"y":{"$task":"d2"}}')
    assert sent(database) == {"a": ["b", "c"]}
    assert database.rows("SELECT seq, parent, is_sent FROM chained") == [(2, 1, 0), (3, 2, 0)]


def test_a_chain_ends_where_tasks_need_only_the_end_of_others(database):
    seq = call(database, "a", "{}")
    calls.register_map(database, "m", [(seq, seq)])
    function_id = calls.register_function(database, "task:f")
    calls.insert_calls(database, [Call("b", '{"xs":{"$succeeded":"m"}}', function_id, (Parents(seq, seq, Needs.END),))])
    assert sent(database) == {"a": []}


def test_a_chain_ends_at_a_function_of_another_manager(database):
    call(database, "a", "{}")
    call(database, "b", X("a"))
    call(database, "c", X("b"), function="task:g", manager="gpu")
    call(database, "d", X("c"), function="task:g", manager="gpu")
    assert sent(database) == {"a": ["b"]}


def test_a_chain_ends_where_it_gets_too_long_and_the_ledger_goes_on(database, monkeypatch):
    seqs = [call(database, "t0", "{}"), *(call(database, f"t{n}", X(f"t{n - 1}")) for n in range(1, 7))]
    monkeypatch.setattr(chaining, "MOST_BYTES", 400)
    first = sent(database)["t0"]
    assert 1 < len(first) < 6
    for index in range(len(first) + 1):
        continued = [(seqs[index + 1], 0)] if index < len(first) else []
        ended(database, index, (seqs[index], Outcome.SUCCEEDED), continued=continued)
        assert sending.count_unsent(database) == (0 if continued else 1)
    following = f"t{len(first) + 1}"
    assert list(sent(database)) == [following]


def test_a_task_that_has_succeeded_once_has_no_chain(database):
    seqs = [call(database, "a", "{}"), call(database, "b", X("a"))]
    assert sent(database) == {"a": ["b"]}
    ended(database, 1, (seqs[0], Outcome.SUCCEEDED), continued=[(seqs[1], 0)])
    repair.rerun(database, seqs[:1])
    assert sent(database) == {"a": []}


def test_a_task_that_has_had_an_attempt_is_in_no_chain(database):
    """Its own message has it: it was reported before the success of its parent, which the user has sent again meanwhile."""
    seqs = [call(database, "a", "{}"), call(database, "b", X("a"))]
    sent(database)
    retried = EndedAttempt(Finished(seqs[1], 1, Outcome.EXCEPTION, 1.0, 1.0, None, "no"), 0.0)
    worker = Worker(source="w", hostname="h", pid=1, slots=1, started_at=0.0)
    leased = [(seqs[0], 1)]
    batch = Batch(job_id="job", ledger="l", worker=worker, number=1, reported_at=2.0, leased=leased, ended=[retried])
    recording.record(database, batch, now=3.0)
    moving.send_again(database)
    assert sent(database) == {"a": []}
    ended(database, 2, (seqs[0], Outcome.SUCCEEDED), continued=[(seqs[1], 0)])
    assert sent(database) == {}


def test_a_failure_and_a_retry_keep_the_chain(database):
    seqs = [call(database, "a", "{}"), call(database, "b", X("a")), call(database, "c", X("b"))]
    sent(database)
    ended(database, 1, (seqs[0], Outcome.EXCEPTION))
    assert database.rows("SELECT DISTINCT state FROM state") == [(State.FAILED,)]
    repair.retry(database, kinds=[Outcome.EXCEPTION])
    assert sent(database) == {"a": ["b", "c"]}


@pytest.mark.parametrize("lose", [lambda one: moving.move(one, "sqs://other"), repair.purge], ids=["moved", "purged"])
def test_what_a_worker_sent_to_a_queue_that_is_gone_does_not_count(database, lose):
    seqs = [call(database, "a", "{}"), call(database, "b", X("a"))]
    assert sent(database) == {"a": ["b"]}
    lose(database)
    repair.retry(database, killed=True)
    assert sent(database) == {"a": ["b"]}
    ended(database, 1, (seqs[0], Outcome.SUCCEEDED), continued=[(seqs[1], 0)])  # by a worker that had the first message
    assert sent(database) == {"b": []}


def test_a_report_of_a_task_whose_message_is_gone_does_not_count(database):
    """It failed for good, before the ledger knew that its parent had succeeded, and its parent counted as failed."""
    seqs = [call(database, "a", "{}"), call(database, "b", X("a"))]
    sent(database)
    ended(database, 1, (seqs[0], Outcome.LOST))
    ended(database, 2, (seqs[1], Outcome.EXCEPTION))
    ended(database, 3, (seqs[0], Outcome.SUCCEEDED), continued=[(seqs[1], 0)])
    assert sent(database) == {"b": []}


def test_a_task_that_succeeds_although_it_failed_because_of_its_parent_has_no_cause(database):
    """The parent counted as failed, because one of the workers that had its message gave up; the other one succeeded."""
    seqs = [call(database, "a", "{}"), call(database, "b", X("a")), call(database, "c", X("b"))]
    sent(database)
    ended(database, 1, (seqs[0], Outcome.LOST))
    ended(database, 2, (seqs[1], Outcome.SUCCEEDED), continued=[(seqs[2], 0)])
    assert database.rows("SELECT state, root_seq FROM state WHERE seq = ?", (seqs[1],)) == [(State.SUCCEEDED, None)]
    assert [one for one in checks.check(database) if not one.is_ok] == []
    ended(database, 3, (seqs[0], Outcome.SUCCEEDED), continued=[(seqs[1], 0)])
    ended(database, 4, (seqs[2], Outcome.SUCCEEDED))
    assert sent(database) == {}
    assert database.rows("SELECT state, missing, root_seq FROM state") == [(State.SUCCEEDED, 0, None)] * 3
    assert [one for one in checks.check(database) if not one.is_ok] == []


def test_workers_are_told_of_a_cancelled_task_that_they_may_send(database):
    seqs = [call(database, "a", "{}"), call(database, "b", X("a")), call(database, "c", X("b"))]
    sent(database)
    cancelling.cancel(database, Selection(ids=["b"]))
    assert control.cancelled(database) == [seqs[1]]
    ended(database, 1, (seqs[0], Outcome.SUCCEEDED), continued=[(seqs[1], 0)])
    ended(database, 2, (seqs[1], Outcome.KILLED))
    assert control.cancelled(database) == []
    assert sent(database) == {}
    assert repair.retry(database, killed=True) == 1
    assert sent(database) == {"b": ["c"]}


def test_workers_are_told_of_purged_tasks_that_they_would_send(database):
    seqs = [call(database, "a", "{}"), call(database, "b", X("a")), call(database, "c", X("b"))]
    sent(database)
    worker = Worker(source="w", hostname="h", pid=1, slots=1, started_at=0.0)
    batch = Batch(job_id="job", ledger="l", worker=worker, number=1, reported_at=2.0, leased=[(seqs[0], 1)])
    recording.record(database, batch, now=3.0)
    repair.purge(database)
    assert control.cancelled(database) == [seqs[1]]
    assert database.value("SELECT count(*) FROM chained") == 0
    assert [one for one in checks.check(database) if not one.is_ok] == []


def test_a_task_to_be_sent_that_an_old_report_shows_as_running_is_sent_once_that_worker_is_dead(database):
    seq = call(database, "a", "{}")
    sent(database)
    ended(database, 1, (seq, Outcome.SUCCEEDED))
    repair.rerun(database, [seq])
    worker = Worker(source="other", hostname="h", pid=1, slots=1, started_at=0.0)
    batch = Batch(job_id="job", ledger="l", worker=worker, number=1, reported_at=2.0, leased=[(seq, 2)])
    recording.record(database, batch, now=3.0)
    assert sent(database) == {}
    recording.end_silent(database, silent_seconds=0.0, now=1e9)
    assert sent(database) == {"a": []}


def test_an_earlier_attempt_does_not_replace_the_success_of_a_task_that_is_run_again(database):
    """Its message was delivered twice; the second attempt of the same number failed, and is reported late."""
    [seq] = [call(database, "a", "{}")]
    sent(database)
    ended(database, 1, (seq, Outcome.SUCCEEDED))
    repair.rerun(database, [seq])
    ended(database, 2, (seq, Outcome.EXCEPTION))
    assert database.rows("SELECT state, attempt FROM state") == [(State.PENDING, 1)]
    ended(database, 3, (seq, Outcome.SUCCEEDED))
    assert database.rows("SELECT state, attempt FROM state") == [(State.SUCCEEDED, 2)]
    assert [one for one in checks.check(database) if not one.is_ok] == []
