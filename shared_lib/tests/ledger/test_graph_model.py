"""Tasks that wait for others, against a model in plain Python, through any course of events."""

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from taskfleet.ledger import (
    call_dependencies,
    calls,
    cancelling,
    control,
    counters,
    edges,
    frontier,
    graph_checks,
    leasing,
    releasing,
    repair,
)
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call
from taskfleet.ledger.edges import Needs
from taskfleet.tasks import FAILURE_KINDS, NO_RETRY, Finished, Outcome, RetryPolicy, State

NO_RETRIES = RetryPolicy(retries={Outcome.EXCEPTION: 1})
PICK = st.integers(0, 10_000)
NEEDS = st.sampled_from([Needs.SUCCESS, Needs.SUCCESS, Needs.END])
BROKEN = (State.FAILED, State.KILLED)


@dataclass
class Task:
    """What the model knows of a task."""

    task_id: str
    parents: list[tuple[str, Needs]] = field(default_factory=list)
    own: State | None = None
    """RUNNING, SUCCEEDED, FAILED or KILLED by itself; None while it is open."""
    failures: int = 0
    result: str | None = None
    reuse: str = ""
    """How its earlier success counts: "unless changed", "compare", or for a running task "stale"."""
    is_cancelled: bool = False
    """While it runs."""


class Machine(RuleBasedStateMachine):
    """Drives a ledger and its model side by side."""

    def __init__(self, job):
        super().__init__()
        self.database = job().database
        self.tasks = {}
        self.seqs = {}
        self.leases = []
        self.last = {}
        """How the tasks stood."""
        self.worker = leasing.register(
            self.database, hostname="h", process="p", pid=1, slots=1, lease_seconds=1e6, now=0.0
        )
        self.is_paused = False
        self.function = calls.register_function(self.database, "task:f")

    # --- insertions ---

    def known(self):
        return list(self.tasks)

    def reference(self, task_id, needs):
        if needs is Needs.SUCCESS:
            return f'{{"$task":"{task_id}"}}'
        calls.register_map(self.database, f"m-{task_id}", [(self.seqs[task_id],) * 2])
        return f'{{"$succeeded":"m-{task_id}"}}'

    def insert(self, names, parents, **more):
        """Insert calls; ``parents`` has (id, needs) by name, ``more`` what is equal to some of them."""
        batch, index = [], {name: -i for i, name in enumerate(names, start=1)}
        for name, of_call in zip(names, parents, strict=True):
            explicit = [one for one in of_call if one[2]]
            references = [
                f'{{"$task":"{parent}"}}' if parent not in self.seqs else self.reference(parent, needs)
                for parent, needs, _ in of_call
            ]
            seqs = tuple(Parents(*(self.seqs.get(p, index.get(p)),) * 2, needs) for p, needs, _ in explicit)
            batch.append(Call(name, f'{{"x":[{",".join(references)}]}}', self.function, seqs))
        expected = [name for name in names if name not in self.tasks]
        inserted = calls.insert_calls(self.database, batch, **more)
        assert inserted.added == len(expected)
        for name, seq, of_call in zip(names, inserted.seqs, parents, strict=True):
            assert self.seqs.setdefault(name, seq) == seq
            if name in expected:
                self.tasks[name] = Task(name, [(parent, needs) for parent, needs, _ in of_call])

    @rule(
        names=st.lists(st.integers(0, 99), min_size=1, max_size=12, unique=True),
        picks=st.lists(PICK, max_size=4),
        data=st.data(),
    )
    def insert_calls(self, names, picks, data):
        names, parents = [f"c{name}" for name in names], []
        for index in range(len(names)):
            earlier = [n for n in names[:index] if n not in self.tasks]
            choices = sorted(set(self.known()) - set(names[index:])) + earlier
            chosen = sorted({choices[pick % len(choices)] for pick in picks}) if choices else []
            parents.append([(one, data.draw(NEEDS) if one in self.seqs else Needs.SUCCESS, True) for one in chosen])
            picks = picks[1:] + picks[:1]
        self.insert(names, parents)

    @precondition(lambda self: len(self.tasks) > 8)
    @rule(start=PICK, size=st.integers(1, 12), needs=NEEDS, fresh=st.integers(0, 3))
    def insert_a_map_over_a_map(self, start, size, needs, fresh):
        over = sorted(self.tasks, key=self.seqs.get)[start % len(self.tasks) :][:size]
        names = [f"p{fresh}-{one}" for one in over]
        if len({len(name) for name in names}) and all(len(name) < 30 for name in names):
            self.insert(
                names, [[(one, needs, False)] for one in over], pairs=[self.seqs[one] for one in over], pairs_need=needs
            )

    @precondition(lambda self: len(self.tasks) > 8)
    @rule(start=PICK, size=st.integers(1, 20), needs=NEEDS, name=st.integers(0, 9))
    def insert_a_reduce(self, start, size, needs, name):
        over = sorted(self.tasks, key=self.seqs.get)[start % len(self.tasks) :][:size]
        name = f"r{name}"
        if name in over or name in self.tasks:
            return
        runs = calls.as_runs(self.seqs[one] for one in over)
        calls.register_map(self.database, name, runs)
        data = f'{{"x":{{"${"results" if needs is Needs.SUCCESS else "succeeded"}":"{name}"}}}}'
        inserted = calls.insert_calls(
            self.database, [Call(name, data, self.function, tuple(Parents(*run, needs) for run in runs))]
        )
        self.seqs[name] = inserted.seqs[0]
        self.tasks[name] = Task(name, [(one, needs) for one in over])

    @precondition(lambda self: self.tasks)
    @rule(pick=PICK, size=st.integers(1, 12), name=st.integers(0, 5), needs=NEEDS)
    def insert_a_map_with_a_common_argument(self, pick, size, name, needs):
        parent = self.known()[pick % len(self.tasks)]
        names = [f"o{name}-{n}" for n in range(size)]
        if parent in names or any(one in self.tasks for one in names):
            return
        self.insert(names, [[(parent, needs, False)]] * size, common=[Parents(*(self.seqs[parent],) * 2, needs)])

    # --- work ---

    @rule(most=st.integers(1, 10))
    def lease(self, most):
        now_pending = self.expected_in(State.PENDING)
        leases = leasing.lease(self.database, self.worker, most, skip=0, lease_seconds=1e6, now=10.0)
        if self.is_paused:
            assert not leases
            return
        for one in leases:
            task = self.tasks[one.task_id]
            assert one.task_id in now_pending
            assert one.function == "task:f"
            assert "$" not in one.data
            done = [self.tasks[p] for p, _ in task.parents if self.tasks[p].own is State.SUCCEEDED]
            assert [one.data.count(f'"{r}"') for r in "rq"] == [sum(p.result == r for p in done) for r in "rq"]
            task.own = State.RUNNING
        self.leases += leases
        assert leases or not now_pending or self.is_behind()

    @precondition(lambda self: self.leases)
    @rule(
        picks=st.lists(PICK, min_size=1, max_size=6), ends=st.lists(st.sampled_from("ssqfrgk"), min_size=6, max_size=6)
    )
    def finish(self, picks, ends):
        finished = []
        for pick, end in zip(picks, ends, strict=False):
            if not self.leases:
                break
            one = self.leases.pop(pick % len(self.leases))
            task = self.tasks[one.task_id]
            if end not in "sq" and task.reuse == "stale":
                task.reuse = "compare"
            if end == "g":
                leasing.give_back(self.database, self.worker, [one])
                task.own = State.KILLED if task.is_cancelled else None
                task.is_cancelled = False
                continue
            outcome = {"s": Outcome.SUCCEEDED, "q": Outcome.SUCCEEDED, "k": Outcome.KILLED}.get(end, Outcome.EXCEPTION)
            delay = NO_RETRY if end == "f" else None
            again = State.KILLED if task.is_cancelled else None
            if end in "sq":
                self.succeeded(task, "r" if end == "s" else "q")
            elif end == "k":
                task.own = again
            else:
                task.failures += 1
                retried = end == "r" and task.failures == 1
                task.own = again if retried else State.FAILED
            task.is_cancelled = False
            finished.append(
                Finished(
                    seq=one.seq, attempt=one.attempt, outcome=outcome, started_at=1.0, elapsed_seconds=0.1,
                    result=f'"{task.result}"' if end in "sq" else None, retry_delay_seconds=delay if end != "r" else 0.0,
                )
            )  # fmt: skip
        leasing.finish(self.database, self.worker, finished, policy=NO_RETRIES, now=5.0)
        if any(task.reuse for task in self.tasks.values()):  # a child that runs meanwhile may get the earlier result
            frontier.carry(self.database)

    def children(self, task, needs=None):
        return [
            one
            for one in self.tasks.values()
            if any(parent == task.task_id and needs in (None, need) for parent, need in one.parents)
        ]

    def succeeded(self, task, result):
        before, task.result, task.own = task.result, result, State.SUCCEEDED
        reuse, task.reuse = task.reuse, ""
        if reuse == "stale":
            task.own, task.reuse = None, "compare"
            self.changed(task)
        elif reuse == "after failure" or (reuse == "compare" and result != before):
            self.changed(task)

    def changed(self, task):
        for child in self.children(task):
            if child.own is State.RUNNING:
                child.reuse = "stale"
            elif child.reuse == "unless changed":
                child.reuse = "compare"
            elif child.own is State.SUCCEEDED:
                child.own, child.reuse = None, "compare"
                self.wait_again(child)

    def wait_again(self, task):
        for child in self.children(task):
            if child.own is State.SUCCEEDED:
                child.own, child.reuse = None, "unless changed"
                self.wait_again(child)

    def follow_breaks(self):
        """Let children follow that tasks fail which had succeeded, or get another chance."""
        while True:
            before, self.last = self.last, self.expected()
            is_settled = True
            for task_id, state in self.last.items():
                task, was_broken = self.tasks[task_id], before.get(task_id) in BROKEN
                if state in BROKEN and not was_broken and task.reuse in ("unless changed", "compare"):
                    task.reuse, is_settled = "", False
                    self.changed(task)
                elif was_broken and state not in BROKEN:
                    task.reuse, is_settled = "after failure", False
                    for child in self.children(task, Needs.END):
                        if child.own is State.SUCCEEDED:
                            child.own, child.reuse = None, "unless changed"
                            self.wait_again(child)
            if is_settled:
                return

    def reuse(self):
        """Let earlier successes count again whose parents have not changed."""
        for task in sorted(self.tasks.values(), key=lambda task: self.seqs[task.task_id]):
            is_free = all(self.is_satisfied(*one) for one in task.parents)
            if task.own is None and task.reuse == "unless changed" and is_free:
                task.own, task.reuse = State.SUCCEEDED, ""

    def is_satisfied(self, parent, needs):
        own = self.tasks[parent].own
        return own is State.SUCCEEDED or (needs is Needs.END and self.expected_of(parent) in BROKEN)

    # --- requests of users ---

    @rule(killed=st.booleans())
    def retry_all(self, killed):
        frontier.carry(self.database)
        repair.retry(self.database, kinds=FAILURE_KINDS, killed=killed)
        for task in self.tasks.values():
            if task.own is State.FAILED or (killed and task.own is State.KILLED):
                task.own, task.failures = None, 0
            elif killed:
                task.is_cancelled = False

    @precondition(lambda self: self.tasks)
    @rule(pick=PICK)
    def retry_one(self, pick):
        frontier.carry(self.database)
        task = self.tasks[self.known()[pick % len(self.tasks)]]
        is_ended = task.own in BROKEN
        assert repair.retry(self.database, ids=[task.task_id]) == is_ended or task.is_cancelled
        task.is_cancelled = False
        if is_ended:
            task.own, task.failures = None, 0

    @precondition(lambda self: self.tasks)
    @rule(picks=st.lists(PICK, min_size=1, max_size=4))
    def cancel(self, picks):
        states = self.settled()
        chosen = {self.known()[pick % len(self.tasks)] for pick in picks}
        report = cancelling.cancel(self.database, cancelling.Selection(ids=[*chosen, "unknown"]))
        self.has_cancelled(report, states, chosen, unknown=1)

    @rule(state=st.sampled_from(cancelling.OPEN))
    def cancel_all_in_a_state(self, state):
        states = self.settled()
        report = cancelling.cancel(self.database, cancelling.Selection(states=[state]))
        self.has_cancelled(report, states, [one for one, was in states.items() if was is state])

    @rule()
    def cancel_all_of_the_function(self):
        states = self.settled()
        report = cancelling.cancel(
            self.database, cancelling.Selection(states=cancelling.OPEN, function_id=self.function)
        )
        self.has_cancelled(report, states, states)

    def settled(self):
        frontier.carry(self.database)
        self.reuse()
        return self.expected()

    def has_cancelled(self, report, states, chosen, unknown=0):
        found = [states[one] for one in chosen]
        ended = sum(one not in cancelling.OPEN for one in found)
        assert report == cancelling.CancelReport(
            **{one.word: found.count(one) for one in cancelling.OPEN}, ended=ended, unknown=unknown
        )
        for one in chosen:
            if states[one] is State.RUNNING:
                self.tasks[one].is_cancelled = True
            elif states[one] in cancelling.OPEN:
                self.tasks[one].own = State.KILLED

    @rule()
    def pause_or_resume(self):
        self.is_paused = not self.is_paused
        assert control.set_paused(self.database, self.is_paused)
        assert not control.set_paused(self.database, self.is_paused)

    @precondition(lambda self: any(task.own is State.SUCCEEDED for task in self.tasks.values()))
    @rule(picks=st.lists(PICK, min_size=1, max_size=3))
    def rerun(self, picks):
        frontier.carry(self.database)
        done = [task for task in self.tasks.values() if task.own is State.SUCCEEDED]
        chosen = list({pick % len(done): done[pick % len(done)] for pick in picks}.values())
        assert repair.rerun(self.database, [self.seqs[task.task_id] for task in chosen]) == len(chosen)
        for task in chosen:
            task.own, task.reuse, task.failures = None, "compare", 0
        for task in chosen:
            self.wait_again(task)

    @rule()
    def purge(self):
        frontier.carry(self.database)
        states = self.expected()
        repair.purge(self.database)
        for task_id, state in states.items():
            if state in (State.WAITING, State.PENDING):
                self.tasks[task_id].own = State.KILLED

    @rule()
    def follow(self):
        frontier.carry(self.database, 0.0, clock=iter(range(1000)).__next__)

    # --- what must hold ---

    def is_behind(self):
        return bool(self.database.value("SELECT EXISTS (SELECT 1 FROM frontier)"))

    def expected_of(self, task_id):
        return self.expected()[task_id]

    def expected(self):
        states = {}
        for task_id in sorted(self.tasks, key=self.seqs.get):  # parents first
            task = self.tasks[task_id]
            if task.own is not None:
                states[task_id] = task.own
                continue
            of_parents = [(states[parent], needs) for parent, needs in task.parents]
            causes = {state for state, needs in of_parents if state in BROKEN and needs is Needs.SUCCESS}
            if causes:  # with two of them either may be named
                states[task_id] = causes.pop() if len(causes) == 1 else self.named(task_id)
            elif all(
                state is State.SUCCEEDED or (state in BROKEN and needs is Needs.END) for state, needs in of_parents
            ):
                states[task_id] = State.PENDING
            else:
                states[task_id] = State.WAITING
        return states

    def named(self, task_id):
        return State(self.database.value("SELECT state FROM state WHERE seq = ?", (self.seqs[task_id],)))

    def expected_in(self, state):
        return {task_id for task_id, one in self.expected().items() if one is state}

    @invariant()
    def agrees(self):
        rows = self.database.rows(
            "SELECT id, coalesce(state, 1), coalesce(kind, 0), root_seq FROM task LEFT JOIN state USING (seq) "
        )
        found = {task_id: State(state) for task_id, state, _, _ in rows}
        running = {one for one, task in self.tasks.items() if task.is_cancelled}
        assert {one for one, seq in self.seqs.items() if seq in control.cancelled(self.database)} == running
        for state, n in counters.by_state(self.database).items():
            assert sum(one is state for one in found.values()) == n, state
        for task_id, state in found.items():  # whatever has to follow yet
            if state in (State.PENDING, State.RUNNING, State.SUCCEEDED):
                for parent, needs in self.tasks[task_id].parents:
                    of_parent = self.tasks[parent]
                    assert of_parent.result is not None or needs is Needs.END, (task_id, parent)
        for found_wrong in (graph_checks.functions, graph_checks.dependencies, graph_checks.waiting):
            assert not list(found_wrong(self.database))
        if self.is_behind():
            return
        self.follow_breaks()
        self.reuse()
        expected = self.expected()
        differing = {one: (state, expected[one]) for one, state in found.items() if state != expected[one]}
        assert not differing
        for task_id, state, kind, root_seq in rows:
            assert (kind == Outcome.UPSTREAM) == (state == State.FAILED and root_seq is not None)
            is_because_of_another = state in BROKEN and self.tasks[task_id].own is None
            assert (root_seq is not None) == is_because_of_another
            if is_because_of_another:
                cause = next(one for one, seq in self.seqs.items() if seq == root_seq)
                assert self.tasks[cause].own == state


@pytest.mark.parametrize("step", [1, 3, 5000])
@pytest.mark.parametrize("most_at_once", [1, 20_000])
def test_the_ledger_agrees_with_a_model(new_job, monkeypatch, step, most_at_once):
    monkeypatch.setattr(frontier, "STEP", step)
    monkeypatch.setattr(releasing, "MOST_AT_ONCE", most_at_once)
    monkeypatch.setattr(leasing, "CARRY_SECONDS", -1.0 if step < 5 else 0.1)
    monkeypatch.setattr(call_dependencies, "FEWEST_OF_LINK", 3)
    monkeypatch.setattr(calls, "FEWEST_OF_SEGMENT", 4)
    run_state_machine_as_test(
        lambda: Machine(new_job),
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_edges_of_one_parent_come_in_steps(new_job):
    database = new_job().database
    function = calls.register_function(database, "task:f")
    parent = calls.insert_calls(database, [Call("p", "{}", function)]).seqs[0]
    few = calls.insert_calls(database, [Call("a", "{}", function, (Parents(parent, parent),))]).seqs
    run = calls.insert_calls(
        database, [Call(f"b{n}", "{}", function) for n in range(20)], common=[Parents(parent, parent)]
    ).seqs
    found, after = [], 0
    while part := edges.children(database, parent, after, 7):
        found += part
        after = part[-1][0]
    assert [child for child, _ in found] == few + run
