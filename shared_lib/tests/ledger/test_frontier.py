"""Descendants follow a failure in transactions between which other processes get at the ledger."""

import sqlite3

from taskfleet.ledger import calls, edges, frontier, leasing
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call
from taskfleet.ledger.edges import Needs
from taskfleet.tasks import Finished, Outcome, RetryPolicy, State


def test_others_get_the_lock_between_two_transactions(new_job, monkeypatch):
    monkeypatch.setattr(leasing, "CARRY_SECONDS", -1.0)
    job = new_job()
    database = job.database
    function = calls.register_function(database, "task:f")
    calls.insert_calls(database, [Call("parent", "{}", function)])
    n = 4 * frontier.STEP
    children = [Call(f"c{index}", "{}", function) for index in range(n)]
    calls.insert_calls(database, children, common=[Parents(1, 1)])
    worker = job.worker()
    [lease] = job.lease(worker, 1)
    job.finish(
        worker, Finished(lease.seq, 1, int(Outcome.EXCEPTION), 1.0, 2.0, None, "no"), policy=RetryPolicy(retries={})
    )
    other = sqlite3.connect(job.path, timeout=0.0, isolation_level=None)
    followed = []

    def sleep(seconds):
        assert 0 <= seconds <= frontier.MOST_PAUSE_SECONDS
        other.execute("BEGIN IMMEDIATE")  # without waiting
        followed.append(other.execute(f"SELECT count(*) FROM state WHERE state = {State.FAILED}").fetchone()[0] - 1)
        other.execute("ROLLBACK")

    assert not frontier.carry(database, sleep=sleep)
    other.close()
    assert followed[:4] == [frontier.STEP, 2 * frontier.STEP, 3 * frontier.STEP, n]
    assert job.states()[n + 1] is State.FAILED


def test_children_in_several_links_and_edges_come_once_in_their_order(new_job):
    database = new_job().database
    function = calls.register_function(database, "task:f")

    def insert(prefix, n, **dependencies):
        return calls.insert_calls(database, [Call(f"{prefix}{i}", "{}", function) for i in range(n)], **dependencies)

    insert("p", 1)
    single = [Call("s", "{}", function, (Parents(1, 1, Needs.END),))]
    expected = [(calls.insert_calls(database, single).seqs[0], Needs.END)]
    for prefix in "abc":
        run = insert(prefix, 10, common=[Parents(1, 1), Parents(1, 1, Needs.END)]).seqs
        expected += [(child, needs) for child in run for needs in (Needs.SUCCESS, Needs.END)]
    for most in (1, 3, 10, 100):
        found, after = [], 0
        while part := edges.children(database, 1, after, most):
            assert len({child for child, _ in part}) <= most
            found += part
            after = part[-1][0]
        assert found == expected
