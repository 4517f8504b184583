"""The graph of a job by functions, which is recorded when calls are inserted."""

import random
from itertools import pairwise

import pytest
from taskfleet.ledger import call_dependencies, calls, function_graph, repair
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call
from taskfleet.ledger.edges import Needs
from taskfleet.ledger.function_graph import FunctionEdge
from taskfleet.tasks import State


def counted_one_by_one(database):
    """Return how many tasks of each function are in each state, the slow way."""
    found = {}
    for name, state in database.rows(
        "SELECT name, coalesce(state, 1) FROM task JOIN function USING (function_id) LEFT JOIN state USING (seq)"
    ):
        counts = found.setdefault(name, dict.fromkeys(State, 0))
        counts[State(state)] += 1
    return found


def counts(database):
    return {one.name: one.counts for one in function_graph.count_by_function(database)}


@pytest.mark.parametrize("most_runs", [0, 2000])
def test_functions_are_counted_as_if_one_by_one(job, monkeypatch, most_runs):
    monkeypatch.setattr(function_graph, "_COUNTED_AT_ONCE", 7)
    monkeypatch.setattr(function_graph, "_MOST_RUNS", most_runs)
    monkeypatch.setattr(calls, "FEWEST_OF_SEGMENT", 20)
    chance = random.Random(5)
    database, worker = job.database, job.worker()
    ids = [calls.register_function(database, f"task:{name}") for name in "abc"]
    job.insert(9)  # a table in the same job
    for batch in range(12):
        n, mixed = chance.randrange(1, 40), chance.random() < 0.5
        function = chance.choice(ids)
        made = [Call(f"{batch}-{i}", "{}", chance.choice(ids) if mixed else function) for i in range(n)]
        parents = [Parents(chance.randrange(10, 14), chance.randrange(14, 16))] if batch > 3 else []
        calls.insert_calls(database, made, common=parents)
        for lease in job.lease(worker, chance.randrange(12)):
            job.finish(worker, job_end(lease, chance))
        if batch == 8:
            repair.purge(database)
        assert counts(database) == counted_one_by_one(database)
    assert sum(sum(one.values()) for one in counts(database).values()) > 100
    runs = database.rows("SELECT first_seq, last_seq FROM function_run ORDER BY 1")
    assert all(first <= last for first, last in runs)
    assert all(before[1] < after[0] for before, after in pairwise(runs))


def job_end(lease, chance):
    from taskfleet.tasks import Outcome

    from shared_lib.tests.ledger.conftest import ended

    return ended(lease, chance.choice([Outcome.SUCCEEDED, Outcome.EXCEPTION, Outcome.MEMORY]))


def test_a_map_in_several_batches_is_one_run(job):
    function = calls.register_function(job.database, "task:f")
    for start in (0, 50):
        calls.insert_calls(job.database, [Call(f"c{n}", "{}", function) for n in range(start, start + 50)])
    assert job.database.rows("SELECT first_seq, last_seq, function_id FROM function_run") == [(1, 100, function)]


@pytest.mark.parametrize("fewest", [1, 100])
def test_functions_that_take_results_of_others_are_recorded(job, monkeypatch, fewest):
    monkeypatch.setattr(call_dependencies, "FEWEST_OF_LINK", fewest)
    database = job.database
    load, fit, pick = (calls.register_function(database, f"task:{name}") for name in ("load", "fit", "pick"))
    loads = calls.insert_calls(database, [Call(f"l{n}", "{}", load) for n in range(9)]).seqs
    fits = calls.insert_calls(database, [Call(f"f{n}", "{}", fit) for n in range(9)], pairs=loads).seqs
    calls.insert_calls(database, [Call("p", "{}", pick, (Parents(fits[0], fits[-1], Needs.END),))])
    calls.insert_calls(database, [Call("x", "{}", fit), Call("y", "{}", fit, (Parents(-1, -1),))])
    assert function_graph.function_edges(database) == [
        FunctionEdge(parent="task:load", child="task:fit", needs=Needs.SUCCESS),
        FunctionEdge(parent="task:fit", child="task:fit", needs=Needs.SUCCESS),
        FunctionEdge(parent="task:fit", child="task:pick", needs=Needs.END),
    ]


def test_functions_are_listed_in_the_order_in_which_they_were_called(job):
    fit, load, _unused = (calls.register_function(job.database, f"task:{name}") for name in ("fit", "load", "unused"))
    calls.insert_calls(job.database, [Call("l1", "{}", load), Call("f1", "{}", fit), Call("l2", "{}", load)])
    assert list(counts(job.database)) == ["task:load", "task:fit"]


def test_counting_reads_no_tasks_and_each_state_once(job, vm_steps):
    database = job.database
    function = calls.register_function(database, "task:f")
    calls.insert_calls(database, [Call(f"c{n}", "{}", function) for n in range(500)], common=[])
    job.lease(job.worker(), 400)
    plans = []
    database._connection.set_trace_callback(plans.append)
    steps = vm_steps(database, lambda: function_graph.count_by_function(database))
    database._connection.set_trace_callback(None)
    assert not [one for one in plans if " task " in one or "edge" in one]
    assert steps < 12 * 500
