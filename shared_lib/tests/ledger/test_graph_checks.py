"""``poe check_ledger`` finds what is wrong with a graph, and nothing in a sound one."""

import pytest
from taskfleet.ledger import call_dependencies, calls, frontier, leasing
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call
from taskfleet.ledger.checks import check
from taskfleet.ledger.edges import Needs
from taskfleet.tasks import Finished, Outcome, RetryPolicy

from shared_lib.tests.ledger.damage import damaged_copy, problems


def call(task_id, function, *parents, needs=Needs.SUCCESS):
    return Call(task_id, "{}", function, tuple(Parents(one, one, needs) for one in parents))


def end(job, worker, n, outcome):
    for lease in job.lease(worker, n):
        result = "1" if outcome is Outcome.SUCCEEDED else None
        job.finish(
            worker,
            Finished(lease.seq, lease.attempt, int(outcome), 1.0, 2.0, result, result or "no"),
            policy=RetryPolicy(retries={}),
        )


@pytest.fixture
def graph(job, monkeypatch):
    """Dependencies of every shape; tasks 1 to 3 succeeded, 4 failed, 5 to 7 and 40 to 42 are open or failed because of others."""
    monkeypatch.setattr(call_dependencies, "FEWEST_OF_LINK", 8)
    database, worker = job.database, job.worker()
    function = calls.register_function(database, "task:f")
    calls.insert_calls(database, [call(f"a{n}", function) for n in range(1, 5)])
    calls.insert_calls(database, [call("b", function, 1, 2), call("c", function, 4), call("d", function, 3, 4, 5)])
    end(job, worker, 3, Outcome.SUCCEEDED)
    end(job, worker, 1, Outcome.EXCEPTION)
    maps = calls.insert_calls(database, [call(f"m{n}", function) for n in range(10)]).seqs  # 8 to 17
    calls.insert_calls(database, [call(f"p{n}", function) for n in range(10)], pairs=maps)  # 18 to 27
    calls.insert_calls(database, [call(f"o{n}", function) for n in range(12)], common=[Parents(5, 5)])  # 28 to 39
    calls.register_map(database, "map", [(8, 17)])
    calls.insert_calls(
        database,
        [
            Call("all", '{"x":{"$results":"map"}}', function, (Parents(8, 17),)),
            Call("any", '{"x":{"$succeeded":"map"}}', function, (Parents(4, 4, Needs.END), Parents(8, 17, Needs.END))),
        ],
    )
    frontier.carry(database)
    end(job, worker, 3, Outcome.SUCCEEDED)
    return job


def test_a_sound_graph_passes(graph):
    assert graph.database.value("SELECT count(*) FROM link") == 4
    graph.close()
    assert problems(graph.path) == {}


def test_what_is_noted_and_not_followed_yet_is_no_damage(graph, monkeypatch):
    monkeypatch.setattr(leasing, "CARRY_SECONDS", -1.0)
    database = graph.database
    end(graph, graph.worker(), 1, Outcome.EXCEPTION)
    assert database.value("SELECT seq FROM frontier") == 10
    calls.insert_calls(database, [call("late", 1, 10, needs=Needs.END)])
    graph.close()
    assert problems(graph.path) == {}


def test_children_that_have_followed_already_are_told_from_those_that_have_not(new_job, monkeypatch):
    monkeypatch.setattr(frontier, "STEP", 3)
    monkeypatch.setattr(leasing, "CARRY_SECONDS", -1.0)
    job = new_job()
    database = job.database
    function = calls.register_function(database, "task:f")
    calls.insert_calls(database, [call("a", function), call("b", function)])
    children = [call(f"c{n}", function, 1, 2, needs=Needs.END) for n in range(7)]
    calls.insert_calls(database, children)
    end(job, job.worker(), 1, Outcome.EXCEPTION)
    times = iter([0.0, 0.0, 9.0])
    assert frontier.carry(database, 1.0, clock=lambda: next(times))
    assert database.rows("SELECT seq, after FROM frontier") == [(1, 5)]
    job.close()
    assert problems(job.path) == {}


DAMAGE = [
    ("UPDATE task SET function_id = 7 WHERE seq = 3", "functions", "task 3 calls function 7, which does not exist"),
    (
        "INSERT INTO worker_code (worker_id, function_id, code_hash) VALUES (1, 8, 'x')",
        "functions",
        "worker_code has function 8",
    ),
    (
        "INSERT INTO edge (parent, child) VALUES (5, 999)",
        "dependencies",
        "task 999 depends on task 5, one of which does",
    ),
    (
        "INSERT INTO edge (parent, child) VALUES (7, 7)",
        "dependencies",
        "task 7 depends on task 7, one of which does not exist, or they are the same",
    ),
    ("UPDATE edge SET needs = 5 WHERE child = 5 AND parent = 1", "dependencies", "unknown need of task 1: 5"),
    ("UPDATE link SET shape = 9 WHERE link_id = 1", "dependencies", "link 1 has an unknown shape or need"),
    ("UPDATE link SET last_child = last_child - 1 WHERE shape = 0", "dependencies", "do not go with its shape"),
    ("UPDATE link SET first_parent = 90, last_parent = 90 WHERE shape = 2", "dependencies", "is in the wrong order"),
    (
        "UPDATE link SET first_child = 98, last_child = 98 WHERE link_id = 4",
        "dependencies",
        "has tasks that do not exist",
    ),
    ("UPDATE task_map SET runs = '[[8, 99]]'", "dependencies", "the map 'map' has tasks that do not exist"),
    ("UPDATE task_map SET runs = '7'", "dependencies", "the map 'map' has tasks that do not exist"),
    ("INSERT INTO frontier (seq, what) VALUES (4, 99)", "dependencies", "something unknown (99)"),
    ("INSERT INTO frontier (seq, what) VALUES (99, 0)", "dependencies", "task 99"),
    ("UPDATE state SET missing = 2 WHERE seq = 20", "waiting", "task 20 waits for 2 tasks, and 1 are not there"),
    ("UPDATE state SET missing = 0 WHERE seq = 20", "waiting", "task 20 waits, but for no task"),
    ("UPDATE state SET missing = -1 WHERE seq = 1", "waiting", "task 1 waits for -1 tasks"),
    ("UPDATE state SET missing = 1 WHERE seq = 1", "waiting", "task 1 waits for 1 tasks, and 0 are not there"),
    ("DELETE FROM link WHERE shape = 1 AND needs = 0", "waiting", "task 40 waits for 8 tasks, and 0 are not there"),
    ("DELETE FROM link WHERE shape = 0", "waiting", "tasks, and 0 are not there"),
    ("DELETE FROM edge; DELETE FROM link", "waiting", "tasks, and 0 are not there"),
    ("INSERT INTO frontier (seq, what) VALUES (4, 1)", "waiting", "task 41 waits for 8 tasks, and 9 are not there"),
    ("UPDATE state SET root_seq = NULL WHERE seq = 6", "waiting", "task 6 failed because of others, and has no cause"),
    ("UPDATE state SET root_seq = 4 WHERE seq = 5", "waiting", "task 5 has the cause 4 and did not fail of it"),
    (
        "UPDATE state SET root_seq = 999 WHERE seq = 6",
        "waiting",
        "the cause of task 6 is task 999, which does not exist",
    ),
]


@pytest.mark.parametrize(("sql", "name", "text"), DAMAGE, ids=[f"{name}-{sql[:50]}" for sql, name, _ in DAMAGE])
def test_damage_of_a_graph_is_found(graph, tmp_path, sql, name, text):
    graph.close()
    found = problems(damaged_copy(graph.path, tmp_path / "copy.db", sql))
    assert any(text in one for one in found[name]), found
    assert set(found) - {"waiting"} <= {name}, found


def test_the_cost_grows_with_the_dependencies_only_linearly(new_job, vm_steps):
    steps = []
    for n in (500, 2000):
        database = new_job().database
        function = calls.register_function(database, "task:f")
        seqs = calls.insert_calls(database, [call(f"a{i}", function) for i in range(n)]).seqs
        parents = [[seqs[i], seqs[(i + 7) % n], seqs[i * 5 % n]] for i in range(n)]
        calls.insert_calls(database, [call(f"b{i}", function, *parents[i]) for i in range(n)])
        calls.insert_calls(database, [call(f"c{i}", function) for i in range(n)], pairs=seqs)
        steps.append(vm_steps(database, lambda database=database: list(check(database))))
    assert steps[1] < 5 * steps[0]
