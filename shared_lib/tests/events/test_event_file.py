"""The events of attempts and the file they go to."""

import json
import multiprocessing

import pytest
from taskfleet.events import EventFile, make_event, task_event
from taskfleet.tasks import Finished, FinishReport, Lease, Outcome

LEASE = Lease(1, 2, "task-é", "{}")


def finished(outcome, **fields):
    return Finished(1, 2, outcome, started_at=1_700_000_000.0, elapsed_seconds=1.5, **fields)


@pytest.mark.parametrize(
    ("outcome", "retry", "fields"),
    [
        (finished(Outcome.SUCCEEDED, result='{"a":[1,null]}'), False, ("task_completed", {"result": {"a": [1, None]}})),
        (finished(Outcome.SUCCEEDED, result="null"), False, ("task_completed", {"result": None})),
        (finished(Outcome.RETRY, error="Retry: why\nTraceback"), True, ("task_completed", {"result": "Retry: why"})),
        (
            finished(Outcome.RETRY, error="Retry: why\nTraceback"),
            False,
            ("task_exception", {"exception": "Retry: why\nTraceback"}),
        ),
        (
            finished(Outcome.EXCEPTION, error="E: x\nTraceback"),
            True,
            ("task_exception", {"exception": "E: x\nTraceback"}),
        ),
        (finished(Outcome.TIMEOUT, error="Timeout: x"), False, ("task_timed_out", {"exception": "Timeout: x"})),
        (finished(Outcome.MEMORY, error="Memory: x"), False, ("task_memory_exceeded", {"exception": "Memory: x"})),
        (finished(Outcome.EXIT, error="Exit: x", exit_code=-11), True, ("task_exited", {"exit_code": -11})),
        (finished(Outcome.LOST, error="The slot's process died"), True, ("task_exited", {"exit_code": None})),
    ],
)
def test_an_attempts_event_has_the_names_and_fields_of_its_kind(outcome, retry, fields):
    event_type, own = fields
    event = task_event(LEASE, outcome, retry=retry)
    assert event.pop("hostname")
    assert event == {
        "timestamp": "2023-11-14T22:13:21.500Z",
        "event_type": event_type,
        "task_id": "task-é",
        "attempt": 2,
        "retry": retry,
        "elapsed_time": 1.5,
        **own,
    }


def test_an_event_of_the_worker():
    event = make_event("fatal_exception", 0.0, exception="x")
    assert event.pop("hostname")
    assert event == {"timestamp": "1970-01-01T00:00:00.000Z", "event_type": "fatal_exception", "exception": "x"}


def test_duplicates_and_interrupted_attempts_are_no_events(tmp_path):
    file = EventFile(tmp_path / "deep" / "events.jsonl")
    leases = [Lease(n, 1, f"t{n}", "{}") for n in range(4)]
    outcomes = [Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.INTERRUPTED, Outcome.EXCEPTION]
    attempts = [Finished(n, 1, outcome, 0.0, 0.1) for n, outcome in enumerate(outcomes)]
    report = FinishReport(duplicates={(1, 1)}, retry_delay_seconds={(2, 1): 0.0, (3, 1): 1.0})
    file.recorded(leases, attempts, report)
    file.write(make_event("fatal_exception", 0.0, exception="zum Schluß\n"))
    file.close()
    lines = (tmp_path / "deep" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    assert [event.get("task_id") for event in events] == ["t0", "t3", None]
    assert [event.get("retry") for event in events] == [False, True, None]


def test_an_attempt_is_an_event_also_beside_a_late_one_at_the_same_task(tmp_path):
    file = EventFile(tmp_path / "events.jsonl")
    late, timely = Lease(1, 1, "t1", "{}"), Lease(1, 2, "t1", "{}")
    attempts = [Finished(1, lease.attempt, Outcome.SUCCEEDED, 0.0, 0.1) for lease in (late, timely)]
    file.recorded([late, timely], attempts, FinishReport(duplicates={(1, 1)}))
    file.close()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(event["task_id"], event["attempt"]) for event in events] == [("t1", 2)]


def test_what_was_there_stays(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"old": 1}\n')
    file = EventFile(path)
    file.write({"new": 2})
    assert path.read_text() == '{"old": 1}\n{"new": 2}\n'  # and each event is there at once
    file.close()


def _write_many(path, word):
    file = EventFile(path)
    for batch in range(20):
        leases = [Lease(n, 1, f"{word}-{batch}-{n}", "{}") for n in range(300)]
        attempts = [Finished(n, 1, Outcome.SUCCEEDED, 0.0, 0.1, result=json.dumps(word * 40)) for n in range(300)]
        file.recorded(leases, attempts, FinishReport())
    file.close()


def test_several_workers_may_share_a_file(tmp_path):
    path = tmp_path / "events.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(path, word)) for word in ("one", "two", "three")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with path.open(encoding="utf-8") as lines:
        ids = [json.loads(line)["task_id"] for line in lines]
    assert len(ids) == len(set(ids)) == 3 * 20 * 300
