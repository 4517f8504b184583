"""The ledger against a model in plain Python, through any course of events."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from taskfleet.errors import InsertError
from taskfleet.ledger import counters, insertion, leasing, repair
from taskfleet.ledger.small_insertion import insert_few
from taskfleet.processes.identity import identity
from taskfleet.tasks import FAILURE_KINDS, NO_RETRY, Finished, Lease, Outcome, RetryPolicy, State

LEASE_SECONDS = 30.0
OUTCOMES = [outcome for outcome in Outcome if outcome is not Outcome.UPSTREAM]
DELAYS = [None, None, 0.0, 5.0, NO_RETRY]
MANY = st.integers(0, 6)
PICK = st.integers(0, 10_000)


class WaitsError(Exception):
    """Raised instead of waiting for another insertion."""


@dataclass
class Task:
    """What the model knows of a task."""

    task_id: str
    insertion: int
    """Tasks of one insertion are in the order of its rows."""
    state: State = State.PENDING
    fresh: bool = True
    attempt: int = 0
    worker: int | None = None
    due: float = 0.0
    tries_from: int = 0
    kind: Outcome | None = None
    attempts: list[tuple[int, Outcome]] = field(default_factory=list)


@dataclass
class Worker:
    """What the model knows of a worker."""

    until: float
    dead: bool = False
    ended: bool = False


@dataclass
class Inserter:
    """An insertion under way."""

    real: insertion.Insertion
    touched: float
    rows: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of the rows whose ids are entered."""
    held: list[str] = field(default_factory=list)
    """Of these names, those that are not another's."""
    cleared: bool = False

    def enter(self, known: set[str]) -> None:
        """Name the rows that have no name yet."""
        self.names = named(self.rows)
        self.held = [name for name in self.names if name in self.held or name not in known]


def named(rows: list[str]) -> list[str]:
    """Return the derived ids of rows: the second of equal ones gets a number."""
    return [f"{x}-{n}" if n > 1 else x for i, x in enumerate(rows) for n in [rows[: i + 1].count(x)]]


class Machine(RuleBasedStateMachine):
    """Drives a ledger and its model side by side."""

    def __init__(self, new_job: Callable[[], Any], policy: RetryPolicy, dead: str) -> None:
        super().__init__()
        self.job = new_job()
        self.policy, self.dead_process = policy, dead
        self.now = 1000.0
        self.tasks: list[Task] = []
        self.insertions = 0
        self.workers: dict[int, Worker] = {}
        self.inserters: list[Inserter] = []
        self.leases: list[tuple[int, Lease]] = []
        self.tallies = {"inserted": 0, "duplicates": 0, "retries": 0, "lost": 0}
        self.ended = 0

    # --- insertions ---

    def under_way(self) -> Inserter | None:
        return self.inserters[-1] if self.inserters and not self.inserters[-1].cleared else None

    @rule()
    def begin_insertion(self):
        other = self.under_way()
        must_wait = other is not None and self.now - other.touched <= insertion.ABANDONED_AFTER_SECONDS

        def sleep(_seconds):
            raise WaitsError

        def begin():
            return insertion.begin(self.job.connect(), source="t", clock=lambda: self.now, sleep=sleep)

        if must_wait:
            with pytest.raises(WaitsError):
                begin()
            return
        if other is not None:
            other.cleared = True
        self.inserters.append(Inserter(begin(), self.now))

    @precondition(lambda self: self.inserters)
    @rule(rows=st.lists(st.sampled_from("abcdefghijklmnop"), max_size=5), pick=PICK)
    def add_rows(self, rows, pick):
        inserter = self.inserters[-1 - pick % min(2, len(self.inserters))]

        def add():
            inserter.real.add(rows, rows, ids_are_derived=True, now=self.now)

        if inserter.cleared:
            with pytest.raises(InsertError):
                add()
        else:
            add()
            inserter.rows += rows
            inserter.touched = self.now
            if len(inserter.rows) - len(inserter.names) >= insertion.ENTER_ROWS:
                inserter.enter(self.known())

    @precondition(lambda self: self.inserters)
    @rule(pick=PICK)
    def accept_insertion(self, pick):
        inserter = self.inserters[-1 - pick % min(2, len(self.inserters))]
        if inserter.cleared:
            with pytest.raises(InsertError):
                inserter.real.accept(self.now)
            return
        report = inserter.real.accept(self.now)
        inserter.cleared = True
        inserter.enter(self.known())
        self.add_tasks(inserter.held, fresh=True)
        added, names = len(inserter.held), inserter.names
        assert (report.added, report.already_there) == (added, len(names) - added)
        assert report.identical == sum("-" in name for name in names)

    def known(self) -> set[str]:
        return {task.task_id for task in self.tasks}

    def add_tasks(self, names: list[str], *, fresh: bool) -> None:
        self.insertions += 1
        self.tasks += [Task(name, self.insertions, fresh=fresh) for name in names]
        self.tallies["inserted"] += len(names)

    @rule(rows=st.lists(st.sampled_from("abcdefghijklmnop"), min_size=1, max_size=4), are_derived=st.booleans())
    def insert_few(self, rows, are_derived):
        names = named(rows) if are_derived else rows
        other, known = self.under_way(), self.known()
        is_held = other is not None and not set(names).isdisjoint(other.held)
        must_wait = is_held and self.now - other.touched <= insertion.ABANDONED_AFTER_SECONDS

        def sleep(_seconds):
            raise WaitsError

        def insert():
            return insert_few(
                self.job.connect(), rows, rows, ids_are_derived=are_derived, clock=lambda: self.now, sleep=sleep
            )

        if must_wait:
            with pytest.raises(WaitsError):
                insert()
            return
        if is_held:
            other.cleared = True
        new = [name for name in names if name not in known]
        if len(set(new)) < len(new):
            with pytest.raises(InsertError, match="occurs twice"):
                insert()
            return
        report = insert()
        self.add_tasks(new, fresh=False)
        assert (report.added, report.already_there) == (len(new), len(names) - len(new))
        assert report.identical == (sum("-" in name for name in names) if are_derived else 0)

    @precondition(lambda self: self.inserters)
    @rule(pick=PICK)
    def discard_insertion(self, pick):
        inserter = self.inserters[-1 - pick % min(2, len(self.inserters))]
        inserter.real.discard()
        inserter.cleared = True

    # --- workers ---

    def pick_worker(self, pick: int) -> tuple[int, Worker]:
        """Choose one, rather an early one than a late one."""
        return list(self.workers.items())[pick % len(self.workers)]

    @rule()
    def register_worker(self):
        worker_id = leasing.register(
            self.job.database,
            hostname="here",
            process=identity(),
            pid=os.getpid(),
            slots=2,
            lease_seconds=LEASE_SECONDS,
            now=self.now,
        )
        assert worker_id not in self.workers
        self.workers[worker_id] = Worker(self.now + LEASE_SECONDS)

    @precondition(lambda self: self.workers)
    @rule(pick=PICK, most=MANY, skip=st.sampled_from([0, 0, 0, 2, 5, 9]))
    def lease(self, pick, most, skip):
        worker_id, worker = self.pick_worker(pick)

        def lease():
            return leasing.lease(
                self.job.database, worker_id, most, skip=skip, lease_seconds=LEASE_SECONDS, now=self.now
            )

        if worker.ended:
            with pytest.raises(leasing.LeaseLostError):
                lease()
            return
        seqs = self.seqs()
        behind = [(seqs[task.task_id], task) for task in self.tasks if seqs[task.task_id] > skip]
        pending = [(seq, task) for seq, task in behind if task.state is State.PENDING]
        again = sorted((task.due, seq) for seq, task in pending if not task.fresh and task.due <= self.now)
        by_seq = dict(behind)
        looked_at = [(seq, self.losses(by_seq[seq])) for _, seq in again[:most]]
        chosen = {seq for seq, n in looked_at if n < 2}
        if not any(task.worker == worker_id and self.losses(task) > 1 for task in self.tasks):
            chosen |= set([seq for seq, n in looked_at if n > 1][:1])
        fresh = sorted(seq for seq, task in pending if task.fresh)[: most - len(chosen)]
        leases = lease()
        worker.until = self.now + LEASE_SECONDS
        assert {lease.seq for lease in leases[: len(chosen)]} == chosen
        assert [lease.seq for lease in leases[len(chosen) :]] == fresh
        for lease in leases:
            [task] = [task for seq, task in pending if seq == lease.seq]
            task.state, task.fresh, task.worker = State.RUNNING, False, worker_id
            task.attempt += 1
            assert (lease.task_id, lease.attempt) == (task.task_id, task.attempt)
            assert lease.data == task.task_id[0]
            self.leases.append((worker_id, lease))

    @staticmethod
    def losses(task):
        return sum(1 for number, outcome in task.attempts if outcome is Outcome.LOST and number > task.tries_from)

    @precondition(lambda self: self.leases)
    @rule(
        picks=st.lists(st.tuples(PICK, st.sampled_from(OUTCOMES), st.sampled_from(DELAYS)), min_size=1, max_size=5),
        own=st.booleans(),
    )
    def finish(self, picks, own):
        worker_id = self.leases[-1 - picks[0][0] % len(self.leases)][0]
        batch = []
        for pick, outcome, delay in picks:
            holder, lease = self.leases[-1 - pick % len(self.leases)]
            if (holder == worker_id or not own) and lease[:2] not in [f[:2] for f in batch]:
                delay = None if outcome in (Outcome.SUCCEEDED, Outcome.INTERRUPTED, Outcome.LOST) else delay
                batch.append(Finished(lease.seq, lease.attempt, int(outcome), 0.0, 1.0, retry_delay_seconds=delay))
        report = leasing.finish(self.job.database, worker_id, batch, policy=self.policy, now=self.now)
        duplicates, delays = set(), {}
        tasks = self.by_seq()
        for ended in batch:
            task = tasks[ended.seq]
            if (task.state, task.worker, task.attempt) != (State.RUNNING, worker_id, ended.attempt):
                duplicates.add(ended[:2])
                continue
            delay = self.end_attempt(task, Outcome(ended.outcome), ended.retry_delay_seconds)
            if delay is not None:
                delays[ended[:2]] = delay
        assert report == leasing.FinishReport(duplicates=duplicates, retry_delay_seconds=delays)
        self.tallies["duplicates"] += len(duplicates)
        self.tallies["retries"] += len(delays)

    def end_attempt(self, task: Task, outcome: Outcome, asked: float | None, free: int = 0) -> float | None:
        """Move the task on; give the delay of its retry, if it gets one that counts."""
        earlier = sum(1 for number, known in task.attempts if known is outcome and number > task.tries_from)
        task.attempts.append((task.attempt, outcome))
        task.worker = None
        if outcome is Outcome.SUCCEEDED:
            task.state = State.SUCCEEDED
            self.ended += 1
            return None
        if outcome is Outcome.INTERRUPTED:
            task.state, task.due = State.PENDING, 0.0
            return None
        if asked == NO_RETRY or earlier - free >= self.policy.retries[outcome]:
            task.state = State.FAILED
            task.kind = Outcome.EXCEPTION if outcome is Outcome.RETRY else outcome
            self.ended += 1
            return None
        delay = 0.0 if outcome is Outcome.LOST else asked
        if delay is None:
            delay = min(10.0 * 2**earlier, 25.0)
        task.state, task.due = State.PENDING, self.now + delay if delay else 0.0
        return delay

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, most=MANY)
    def give_back(self, pick, most):
        worker_id = self.leases[-1 - pick % len(self.leases)][0]
        held = {(seq, task.attempt) for seq, task in self.by_seq().items() if task.worker == worker_id}
        back = [lease for holder, lease in self.leases if holder == worker_id and lease[:2] in held]
        back = list({lease.seq: lease for lease in back}.values())[:most]
        leasing.give_back(self.job.database, worker_id, back)
        leasing.give_back(self.job.database, worker_id, back)
        for lease in back:
            task = self.by_seq()[lease.seq]
            task.state, task.worker, task.due = State.PENDING, None, 0.0
            task.attempt -= 1
        # What was given back is as if it had never been leased: nobody reports on it.
        self.leases = [(holder, lease) for holder, lease in self.leases if lease not in back or holder != worker_id]

    @precondition(lambda self: self.workers)
    @rule(pick=PICK)
    def renew(self, pick):
        worker_id, worker = self.pick_worker(pick)
        if worker.ended:
            with pytest.raises(leasing.LeaseLostError):
                leasing.renew(self.job.database, worker_id, lease_seconds=LEASE_SECONDS, now=self.now)
            return
        leasing.renew(self.job.database, worker_id, lease_seconds=LEASE_SECONDS, now=self.now)
        worker.until = self.now + LEASE_SECONDS

    @precondition(lambda self: self.workers)
    @rule(pick=PICK)
    def end_worker(self, pick):
        worker_id, worker = self.pick_worker(pick)
        leasing.end_worker(self.job.database, worker_id, now=self.now)
        self.take_back(worker_id)
        worker.ended = True

    def take_back(self, worker_id: int) -> int:
        taken = [task for task in self.tasks if task.worker == worker_id]
        for task in taken:
            task.state, task.worker, task.due = State.PENDING, None, 0.0
        return len(taken)

    @precondition(lambda self: self.workers)
    @rule(pick=PICK)
    def worker_dies(self, pick):
        worker_id, worker = self.pick_worker(pick)
        worker.dead = True
        self.job.database.execute("UPDATE worker SET process = ? WHERE worker_id = ?", (self.dead_process, worker_id))

    @rule()
    def reap(self):
        taken = 0
        for worker_id, worker in self.workers.items():
            if worker.ended or not (worker.dead or worker.until < self.now):
                continue
            worker.ended = True
            for task in [task for task in self.tasks if task.worker == worker_id]:
                taken += 1
                self.tallies["lost"] += 1
                self.tallies["retries"] += self.end_attempt(task, Outcome.LOST, None, free=1) is not None
        assert leasing.reap(self.job.database, policy=self.policy, now=self.now) == taken

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0, 31.0, 400.0]))
    def time_passes(self, seconds):
        self.now += seconds

    # --- by hand ---

    @rule()
    def release(self):
        taken = 0
        for worker_id, worker in self.workers.items():
            taken += self.take_back(worker_id)
            worker.ended = True
        assert leasing.release(self.job.database, now=self.now) == taken

    @rule()
    def purge(self):
        pending = [task for task in self.tasks if task.state is State.PENDING]
        for task in pending:
            task.state, task.fresh = State.KILLED, False
        assert repair.purge(self.job.database) == len(pending)

    @rule(kinds=st.sets(st.sampled_from(FAILURE_KINDS)), killed=st.booleans(), picks=st.lists(PICK, max_size=3))
    def retry(self, kinds, killed, picks):
        ids = [self.tasks[pick % len(self.tasks)].task_id for pick in picks if self.tasks]
        chosen = [
            task
            for task in self.tasks
            if (task.state is State.FAILED and (task.kind in kinds or task.task_id in ids))
            or (task.state is State.KILLED and (killed or task.task_id in ids))
        ]
        for task in chosen:
            task.state, task.kind, task.due, task.tries_from = State.PENDING, None, 0.0, task.attempt
        found = repair.retry(self.job.database, kinds=sorted(kinds), killed=killed, ids=[*ids, "unknown"])
        assert found == len(chosen)

    # --- what holds after each step ---

    def seqs(self) -> dict[str, int]:
        accepted = self.job.states()
        return {task_id: seq for task_id, seq in self.job.database.rows("SELECT id, seq FROM task") if seq in accepted}

    def by_seq(self) -> dict[int, Task]:
        seqs = self.seqs()
        return dict(sorted((seqs[task.task_id], task) for task in self.tasks))

    @invariant()
    def counts_are_right(self):
        self.job.check()
        assert counters.tallies(self.job.database) == self.tallies
        assert (self.job.database.value("SELECT sum(n) FROM throughput") or 0) == self.ended

    @invariant()
    def tasks_are_as_in_the_model(self):
        tasks = self.by_seq()
        order = [[task for task in tasks.values() if task.insertion == n] for n in range(1, self.insertions + 1)]
        assert [task for some in order for task in some] == self.tasks, "tasks stand in the order of their rows"
        assert self.job.states() == {seq: task.state for seq, task in tasks.items()}
        rows = self.job.database.rows("SELECT seq, attempt, worker_id, kind FROM state")
        assert {seq: rest for seq, *rest in rows} == {
            seq: [task.attempt, task.worker, int(task.kind or 0)] for seq, task in tasks.items() if not task.fresh
        }
        attempts = self.job.database.rows("SELECT key / 1000, key % 1000, outcome FROM attempt ORDER BY key")
        assert attempts == [(seq, n, outcome) for seq, task in tasks.items() for n, outcome in task.attempts]

    @invariant()
    def what_is_left_is_as_in_the_model(self):
        tasks = self.by_seq()
        for skip in (0, 3):
            pending = [task for seq, task in tasks.items() if seq > skip and task.state is State.PENDING]
            due = min((task.due for task in pending if not task.fresh), default=None)
            assert leasing.next_due_at(self.job.database, skip) == due
            if pending:
                assert leasing.has_leasable(self.job.database, skip)

    @invariant()
    def workers_are_as_in_the_model(self):
        rows = self.job.database.rows("SELECT worker_id, lease_until, ended_at IS NOT NULL FROM worker")
        assert {worker_id: (until, bool(ended)) for worker_id, until, ended in rows} == {
            worker_id: (worker.until, worker.ended) for worker_id, worker in self.workers.items()
        }

    def teardown(self):
        self.job.close()


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 50_000])
def test_the_ledger_does_what_the_model_does(new_job, policy, fork, monkeypatch, step):
    monkeypatch.setattr(repair, "STEP", step)
    monkeypatch.setattr(insertion, "CLEAR_ROWS", step)
    monkeypatch.setattr(insertion, "ENTER_ROWS", step + 1)
    child = fork(lambda _tell: None)
    dead = identity(child.pid)
    assert child.wait() == 0
    run_state_machine_as_test(
        lambda: Machine(new_job, policy, dead),
        settings=settings(
            max_examples=40,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
