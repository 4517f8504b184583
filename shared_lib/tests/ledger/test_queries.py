"""Questions about tasks."""

import itertools
import json

import pytest
from taskfleet.ledger import leasing, queries, repair
from taskfleet.tasks import Outcome, State


@pytest.fixture
def varied(job, done):
    """Tasks 1 to 8, ids a to h: of every state, with two of them leased by a worker that skips."""
    job.insert([json.dumps({"x": n}) for n in range(1, 9)], list("abcdefgh"))
    worker_id = job.worker()
    a, b, c, d, e = job.lease(worker_id, 5)
    job.finish(
        worker_id,
        done(a, result='{"p": 1, "q": [2]}', elapsed_seconds=1.5, started_at=4.0),
        done(b, Outcome.MEMORY, error="too large"),
        done(c, Outcome.EXCEPTION, error="ValueError: no\nTraceback"),
        done(d, Outcome.EXIT, error="code 1", retry_delay_seconds=-1.0, exit_code=-11),
    )
    job.lease(worker_id, 1, skip=6)
    assert e.seq == 5
    return job


def listed(job, **choice):
    return [(line.task_id, line.state.word) for line in queries.list_tasks(job.database, **choice)]


def test_tasks_are_listed_in_the_order_of_the_table(varied):
    assert listed(varied) == [
        ("a", "succeeded"),
        ("b", "failed"),
        ("c", "pending"),
        ("d", "failed"),
        ("e", "running"),
        ("f", "pending"),
        ("g", "running"),
        ("h", "pending"),
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"state": State.PENDING}, "cfh"),
        ({"state": State.RUNNING}, "eg"),
        ({"state": State.SUCCEEDED}, "a"),
        ({"state": State.FAILED}, "bd"),
        ({"state": State.KILLED}, ""),
        ({"state": State.FAILED, "kind": Outcome.EXIT}, "d"),
        ({"kind": Outcome.MEMORY}, "b"),
        ({"state": State.PENDING, "kind": Outcome.MEMORY}, ""),
    ],
)
def test_tasks_are_listed_by_state_and_kind(varied, choice, expected):
    assert "".join(task_id for task_id, _ in listed(varied, **choice)) == expected


@pytest.mark.parametrize("limit", range(10))
def test_a_list_ends_at_its_limit(varied, limit):
    assert "".join(task_id for task_id, _ in listed(varied, limit=limit)) == "abcdefgh"[:limit]


def test_a_line_tells_the_reason_and_the_attempts(varied):
    lines = {line.task_id: line for line in queries.list_tasks(varied.database)}
    assert lines["b"] == queries.TaskLine(
        seq=2, task_id="b", state=State.FAILED, kind=Outcome.MEMORY, attempts=1, reason="too large"
    )
    assert (lines["c"].reason, lines["c"].kind, lines["c"].attempts) == ("ValueError: no", None, 1)
    assert (lines["f"].reason, lines["f"].attempts) == (None, 0)


def test_a_task_is_found_with_all_its_attempts(varied, done):
    worker_id = varied.worker(now=99.0)
    [lease] = varied.lease(worker_id, 1, now=99.0)
    record = queries.find_task(varied.database, "c")
    assert (record.seq, record.task_id, record.data) == (3, "c", '{"x": 3}')
    assert (record.state, record.kind, record.hostname) == (State.RUNNING, None, "here")
    varied.finish(worker_id, done(lease, result="7"))
    record = queries.find_task(varied.database, "c")
    assert (record.state, record.hostname) == (State.SUCCEEDED, None)
    assert [(a.number, a.outcome, a.result, a.hostname) for a in record.attempts] == [
        (1, Outcome.EXCEPTION, None, "here"),
        (2, Outcome.SUCCEEDED, "7", "here"),
    ]
    assert record.attempts[0].error == "ValueError: no\nTraceback"


def test_a_failed_task_tells_its_kind_and_exit_code(varied):
    record = queries.find_task(varied.database, "d")
    assert (record.state, record.kind, record.attempts[0].exit_code) == (State.FAILED, Outcome.EXIT, -11)


def test_a_fresh_task_and_an_unknown_one(varied):
    record = queries.find_task(varied.database, "f")
    assert (record.state, record.attempts, record.available_at) == (State.PENDING, (), 0.0)
    assert queries.find_task(varied.database, "z") is None


def test_a_delayed_task_tells_when_it_is_due(varied):
    assert queries.find_task(varied.database, "c").available_at == 10.0


def test_failures_are_counted_by_the_first_line_of_their_error(job, done):
    job.insert(7)
    worker_id = job.worker()
    errors = ["one", "two\nat line 1", "two\nat line 2", "three", "three", "three", None]
    for lease, error in zip(job.lease(worker_id, 9), errors, strict=True):
        job.finish(worker_id, done(lease, Outcome.MEMORY, error=error))

    def reasons(kind, examined):
        return [(one.reason, one.n, one.task_id) for one in queries.failure_reasons(job.database, kind, examined)]

    ids = [line.task_id for line in queries.list_tasks(job.database)]
    every = [("three", 3, ids[3]), ("two", 2, ids[1]), ("one", 1, ids[0]), ("", 1, ids[6])]
    assert reasons(Outcome.MEMORY, 100) == every
    assert reasons(Outcome.MEMORY, 3) == [("two", 2, ids[1]), ("one", 1, ids[0])]
    assert reasons(Outcome.EXIT, 100) == []


def test_workers_are_listed_while_they_live(job):
    job.insert(3)
    one, two, three = job.worker(now=1.0), job.worker(now=2.0), job.worker(now=3.0)
    job.lease(two, 2, now=5.0)
    leasing.end_worker(job.database, one, now=6.0)
    found = queries.workers(job.database)
    assert [(w.worker_id, w.started_at, w.seen_at, w.running) for w in found] == [
        (two, 2.0, 5.0, 2),
        (three, 3.0, 3.0, 0),
    ]
    assert (found[0].hostname, found[0].slots) == ("here", 4)


def test_results_are_the_table_with_what_became_of_each_task(varied):
    rows = list(queries.results(varied.database))
    assert [row["task_id"] for row in rows] == list("abcdefgh")
    assert [row["x"] for row in rows] == list(range(1, 9))
    assert rows[0] == {
        "task_id": "a",
        "x": 1,
        "state": "succeeded",
        "result_p": 1,
        "result_q": [2],
        "failure_kind": None,
        "error": None,
        "attempts": 1,
        "elapsed_seconds": 1.5,
        "started_at": 4.0,
        "hostname": "here",
    }
    assert (rows[1]["state"], rows[1]["failure_kind"], rows[1]["error"]) == ("failed", "memory", "too large")
    assert (rows[2]["state"], rows[2]["failure_kind"], rows[2]["error"]) == (
        "pending",
        None,
        "ValueError: no\nTraceback",
    )
    assert {key: rows[5][key] for key in queries.RESULT_COLUMNS} == {
        "task_id": "f",
        "state": "pending",
        "failure_kind": None,
        "error": None,
        "attempts": 0,
        "elapsed_seconds": None,
        "started_at": None,
        "hostname": None,
    }


@pytest.mark.parametrize("skips", list(itertools.permutations([1, 3, 4])))
def test_results_keep_the_order_of_the_table_whoever_skips(job, skips):
    job.insert(6)
    for skip in skips:
        job.lease(job.worker(), 1, skip=skip)
    assert [row["x"] for row in queries.results(job.database)] == list(range(6))


@pytest.mark.parametrize("result", ["5", "null", '"text"', "[1, 2]", "false", "{}"])
def test_a_result_that_is_no_object_or_an_empty_one_has_a_column_of_its_own(job, result):
    job.insert(["{}"])
    job.try_once(Outcome.SUCCEEDED, result=result)
    [row] = queries.results(job.database)
    assert row["result"] == json.loads(result)


@pytest.mark.parametrize("name", [*queries.RESULT_COLUMNS, "result", "result_x"])
def test_an_argument_called_like_a_column_is_told_apart(job, name):
    job.insert([json.dumps({name: "mine", "y": 2})])
    job.try_once(Outcome.SUCCEEDED, result='{"x": 3}' if name == "result_x" else "3")
    [row] = queries.results(job.database)
    assert row[f"arg_{name}"] == "mine"
    assert row["y"] == 2
    assert row.get("result", row.get("result_x")) == 3
    assert row["state"] == "succeeded"


def test_what_is_being_inserted_is_in_no_list(job):
    from taskfleet.ledger import insertion

    job.insert(["{}"])
    insertion.begin(job.database, source="t").add(["b"], ["{}"], ids_are_derived=False, now=0.0)
    assert [task_id for task_id, _ in listed(job)] == ["id of {}"]
    assert len(list(queries.results(job.database))) == 1
    assert queries.find_task(job.database, "b") is None


def test_killed_tasks_are_listed_as_such(job):
    job.insert(["1", "2"])
    repair.purge(job.database)
    assert [state for _, state in listed(job, state=State.KILLED)] == ["killed", "killed"]
    assert listed(job, state=State.PENDING) == []


def test_arguments_that_are_called_like_renamed_arguments_keep_columns_of_their_own(job):
    names = ["state", "arg_state", "arg_arg_state", "arg_result_x", "result_x", "result", "arg_x", "x"]
    job.insert([json.dumps({name: name for name in names})])
    job.try_once(Outcome.SUCCEEDED, result='{"x": 3, "": 4}')
    [row] = queries.results(job.database)
    assert {column: name for column, name in row.items() if name in names} == {
        "arg_state": "state",
        "arg_arg_state": "arg_state",
        "arg_arg_arg_state": "arg_arg_state",
        "arg_arg_result_x": "arg_result_x",
        "arg_result_x": "result_x",
        "arg_result": "result",
        "arg_x": "arg_x",
        "x": "x",
    }
    assert (row["state"], row["result_x"], row["result_"]) == ("succeeded", 3, 4)
