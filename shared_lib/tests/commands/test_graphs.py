"""The commands that show and repair jobs, on a job with a graph."""

import json
from contextlib import closing

import pyarrow.feather
import pytest
from taskfleet.api.job import Job
from taskfleet.ledger import calls, frontier, leasing
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call
from taskfleet.ledger.database import create
from taskfleet.ledger.edges import Needs
from taskfleet.tasks import Finished, Outcome, RetryPolicy

REASON = "ValueError: no data"


class Graph:
    """The ledger of a job with a graph, and a worker."""

    def __init__(self, project):
        path = Job.open(project=project).configuration.ledger_path
        self.database = create(path, job_id="sums", project=project, now=0.0)
        self.worker = leasing.register(
            self.database, hostname="tower", process="p", pid=1, slots=2, lease_seconds=1e10, now=0.0
        )
        self.ids = {
            name: calls.register_function(self.database, name) for name in ("task:load", "task:fit", "task:pick")
        }

    def map(self, function, ids, data=None, **more):
        """Insert calls of a function."""
        data = data or [f'{{"seed":{n}}}' for n in range(len(ids))]
        batch = [Call(one, text, self.ids[function]) for one, text in zip(ids, data, strict=True)]
        return calls.insert_calls(self.database, batch, **more).seqs

    def lease(self, n):
        """Lease tasks."""
        return leasing.lease(self.database, self.worker, n, skip=0, lease_seconds=1e10, now=0.0)

    def end(self, leases, outcome=Outcome.SUCCEEDED, result="1"):
        """End tasks."""
        is_success = outcome is Outcome.SUCCEEDED
        finished = [
            Finished(
                one.seq,
                one.attempt,
                int(outcome),
                1.0,
                2.0,
                result if is_success else None,
                None if is_success else REASON,
            )
            for one in leases
        ]
        leasing.finish(self.database, self.worker, finished, policy=RetryPolicy(retries={}), now=0.0)
        frontier.carry(self.database)


@pytest.fixture
def new_graph(project):
    graph = Graph(project)
    with closing(graph.database):
        yield graph


@pytest.fixture
def pick(new_graph):
    """Twenty loads, and a pick that takes all of them; the pick is a parent of a fit."""
    seqs = new_graph.map("task:load", [f"load-{n:02}" for n in range(20)])
    calls.register_map(new_graph.database, "m", [(seqs[0], seqs[-1])])
    calls.insert_calls(
        new_graph.database,
        [
            Call(
                "pick-a",
                '{"loads":{"$results":"m"},"top":3}',
                new_graph.ids["task:pick"],
                (Parents(seqs[0], seqs[-1]),),
            ),
            Call("fit-a", '{"of":{"$task":"pick-a"}}', new_graph.ids["task:fit"], (Parents(-1, -1),)),
            Call(
                "pick-some",
                '{"loads":{"$succeeded":"m"}}',
                new_graph.ids["task:pick"],
                (Parents(seqs[0], seqs[-1], Needs.END),),
            ),
        ],
    )
    return new_graph


@pytest.fixture
def failed(pick):
    """The same, after load-00 succeeded, and load-01 and load-02 failed."""
    pick.end(pick.lease(1))
    pick.end(pick.lease(2), Outcome.EXCEPTION)
    return pick


# --- status, tasks, task ---


def test_the_status_counts_the_tasks_of_each_function(poe, failed):
    out = poe("status").out
    assert "  task:load  20     17 pending, 1 succeeded, 2 failed" in out
    assert "  task:pick  2      1 waiting, 1 failed" in out
    functions = json.loads(poe("status", "--json").out)["functions"]
    assert functions["task:fit"] == {"failed": 1}


def test_the_status_counts_waiting_tasks_as_left(poe, pick):
    pick.end(pick.lease(20))
    assert "20 of 23 tasks done (86 %)" in poe("status").out


def test_the_status_names_each_root_cause_once(poe, failed):
    out = poe("status").out
    assert f"2 exception   for example load-01: {REASON}" in out
    assert f"2 upstream    because load-01 failed: {REASON}" in out
    cause = json.loads(poe("status", "--json").out)["failure_causes"][-1]
    assert cause == {"kind": "upstream", "n": 2, "task_id": "load-01", "reason": f"load-01 failed: {REASON}"}


def test_failures_with_two_root_causes_have_two_lines(poe, new_graph):
    seqs = new_graph.map("task:load", ["a", "b"])
    for parent, n in zip(seqs, (1, 3), strict=True):
        name = "ab"[parent - 1]
        new_graph.map(
            "task:fit",
            [f"{name}{k}" for k in range(n)],
            [f'{{"x":{{"$task":"{name}"}},"k":{k}}}' for k in range(n)],
            common=[Parents(parent, parent)],
        )
    new_graph.end(new_graph.lease(2), Outcome.EXCEPTION)
    lines = [line.split() for line in poe("status").out.splitlines() if "upstream" in line]
    assert [line[:5] for line in lines] == [
        ["3", "upstream", "because", "b", "failed:"],
        ["1", "upstream", "because", "a", "failed:"],
    ]


def test_root_causes_are_found_without_scanning_the_tasks(failed):
    from taskfleet.ledger.dependencies import root_causes

    statements = []
    failed.database._connection.set_trace_callback(statements.append)
    assert [(cause.task_id, n) for cause, n in root_causes(failed.database, 9)] == [("load-01", 2)]
    failed.database._connection.set_trace_callback(None)
    plans = [row[3] for one in statements for row in failed.database.rows(f"EXPLAIN QUERY PLAN {one}")]
    assert len(statements) == 5
    assert not [plan for plan in plans if plan.startswith("SCAN")], plans


def test_tasks_that_were_killed_with_another_are_no_failures_and_can_be_retried_by_their_cause(poe, pick):
    assert poe("cancel", "load-05", "--yes").code == 0
    assert "upstream" not in poe("status").out
    assert "pick-a   killed  0         because load-05 did not succeed" in poe("tasks", "--state", "killed").out
    assert "fit-a was killed because task load-05 was" in poe("explain", "fit-a").out
    assert "fit-a was not run, because load-05 was killed" in poe("retry", "fit-a").err
    assert poe("check_ledger").code == 0
    assert "Put 1 task back" in poe("retry", "--upstream", "fit-a").out
    assert json.loads(poe("status", "--json").out)["counts"]["killed"] == 0


def test_the_list_of_tasks_names_the_cause(poe, failed):
    out = poe("tasks", "--state", "failed").out
    assert "pick-a   failed (upstream)   0         because load-01 did not succeed" in out
    assert "pick-some  waiting  0" in poe("tasks", "--state", "waiting").out


def test_a_task_shows_its_function_arguments_and_relatives(poe, failed):
    out = poe("task", "pick-a").out
    assert "Function: task:pick\n" in out
    assert '  loads = "results of the map m"\n  top = 3\n' in out
    assert "Depends on: 20 tasks, 19 of them not done\nNeeded by: 1 task\n" in out
    assert f"Cause: load-01 failed: {REASON}" in out
    assert "  of = result of pick-a" in poe("task", "fit-a").out
    assert "Depends" not in poe("task", "load-00").out
    assert json.loads(poe("task", "pick-a", "--json").out)["cause"]["task_id"] == "load-01"


def test_a_task_of_a_table_shows_nothing_of_graphs(poe, trouble):
    assert 'Data: {"num1":0,"num2":10,"way":"add"}'.replace(" ", "") in poe("task", "t0").out.replace(" ", "")
    assert "function" not in json.loads(poe("task", "t0", "--json").out)
    assert json.loads(poe("status", "--json").out)["functions"] is None


# --- explain ---


def test_explain_says_what_a_task_waits_for_and_why_that_has_not_ended(poe, pick):
    pick.end(pick.lease(3))
    pick.lease(1)
    out = poe("explain", "pick-a").out
    assert "pick-a waits for 17 of 20 tasks: load-03 (running on tower), load-04 (pending), load-05 (pending), …" in out
    assert "Task load-03 is held by a worker on tower" in out


def test_explain_follows_a_chain_to_its_beginning(poe, pick):
    out = poe("explain", "fit-a").out
    assert "fit-a waits for 1 of 1 task: pick-a (waiting)" in out
    assert "Task load-00 is pending" in out


def test_explain_names_the_root_cause(poe, failed):
    out = poe("explain", "fit-a").out
    assert f"fit-a was not run, because load-01 failed: {REASON}" in out
    assert "poe retry load-01" in out


def test_explaining_takes_the_same_number_of_steps_for_any_number_of_tasks(new_graph, project, vm_steps_of):
    from taskfleet.ledger.dependencies import find_dependencies, waits_in_the_end_for

    new_graph.map("task:load", [f"l{n}" for n in range(3000)])
    calls.register_map(new_graph.database, "m", [(1, 3000)])
    call = Call("p", '{"x":{"$results":"m"}}', new_graph.ids["task:pick"], (Parents(1, 3000),))
    [seq] = calls.insert_calls(new_graph.database, [call]).seqs
    new_graph.map("task:fit", [f"f{n}" for n in range(3000)], common=[Parents(seq, seq)])

    def explain():
        found = find_dependencies(new_graph.database, seq)
        assert (found.parents, found.missing, found.children) == (3000, 3000, 3000)
        assert waits_in_the_end_for(new_graph.database, seq).task_id == "l0"

    assert vm_steps_of(new_graph.database, explain) < 2000


@pytest.fixture
def vm_steps_of():
    """Counts the steps of SQLite's machine that a function takes on a connection."""

    def count(database, function):
        steps = []
        database._connection.set_progress_handler(lambda: steps.append(1), 1)
        try:
            function()
        finally:
            database._connection.set_progress_handler(None, 0)
        return len(steps)

    return count


# --- retry ---


def test_retrying_a_task_that_failed_because_of_another_names_that_one(poe, failed):
    answer = poe("retry", "fit-a")
    assert answer.code == 1
    assert f"fit-a was not run, because load-01 failed: {REASON}" in answer.err
    assert "poe retry load-01" in answer.err
    assert "Nothing was changed" in answer.err
    both = poe("retry", "fit-a", "load-01")
    assert both.code == 0
    assert "Put 1 task back" in both.out
    assert "fit-a was not run" in both.out


def test_retry_upstream_retries_all_causes_and_the_descendants_follow(poe, failed):
    answer = poe("retry", "--upstream", "fit-a")
    assert "Put 2 tasks back" in answer.out
    assert "skipped" not in answer.out
    counts = json.loads(poe("status", "--json").out)["counts"]
    assert (counts["pending"], counts["waiting"], counts["failed"]) == (19, 3, 0)


def test_retry_upstream_of_a_task_that_failed_itself_retries_it(poe, failed):
    assert "Put 1 task back" in poe("retry", "--upstream", "load-02").out


def test_retry_upstream_wants_to_know_which(poe, failed):
    answer = poe("retry", "--upstream", "--failed")
    assert (answer.code, "--upstream requires task IDs" in answer.err) == (2, True)
    assert poe("retry", "--upstream", "pick-some").code == 1


# --- results ---


def test_results_have_the_function_and_plain_values(poe, new_graph, project):
    data = '{"seed":{"$tuple":[1,{"$float":"nan"}]},"function":2,"day":{"$date":"2026-01-31"}}'
    new_graph.map("task:load", ["a"], [data])
    new_graph.map("task:fit", ["b"], ['{"table":{"$task":"a"}}'], common=[Parents(1, 1)])
    new_graph.end(new_graph.lease(1), result='{"$file":{"name":"ab/abcd.npy","bytes":9,"sha256":"abcd","as":"npy"}}')
    new_graph.end(new_graph.lease(1), result='{"mean":{"$float":"nan"},"items":{"$set":[1]}}')
    poe("results", "-o", "all.jsonl")
    first, second = map(json.loads, (project / "all.jsonl").read_text().splitlines())
    assert (first["function"], first["arg_function"], first["seed"], first["day"]) == (
        "task:load",
        2,
        [1, None],
        "2026-01-31",
    )
    assert first["result"] == str(
        Job.open(project=project).configuration.ledger_path.with_suffix(".results") / "ab/abcd.npy"
    )
    assert (second["table"], second["result_mean"], second["result_items"]) == ("a", None, [1])
    poe("results", "-o", "all.feather")
    [_, mean] = pyarrow.feather.read_table(project / "all.feather").column("result_mean").to_pylist()
    assert mean != mean


def test_results_say_because_of_which_task_one_failed(poe, failed, project):
    poe("results", "-o", "all.jsonl")
    rows = {row["task_id"]: row for row in map(json.loads, (project / "all.jsonl").read_text().splitlines())}
    assert (rows["fit-a"]["failure_kind"], rows["fit-a"]["error"]) == ("upstream", "because load-01 did not succeed")
    assert rows["load-01"]["error"] == REASON


def test_retry_with_descendants_runs_a_successful_task_and_all_that_depend_on_it_again(poe, pick):
    for _ in range(3):
        pick.end(pick.lease(20))
    without = poe("retry", "load-03")
    assert without.code == 1
    assert "Nothing was changed" in without.err
    assert poe("retry", "--with-descendants").code == 2
    assert "Put 1 task back" in poe("retry", "--with-descendants", "load-03").out
    for names in ({"load-03"}, {"pick-a", "pick-some"}, {"fit-a"}):  # although all have the same results as before
        leases = pick.lease(20)
        assert {one.task_id for one in leases} == names
        pick.end(leases)
    assert not pick.lease(20)
