"""Messages of tasks and of events carry what they were given."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.errors import QueueError
from taskfleet.messages import events, tasks
from taskfleet.messages.chains import Chain, ChainTask
from taskfleet.messages.events import Batch, EndedAttempt, Worker
from taskfleet.messages.formats import NewerFormatError
from taskfleet.messages.grouping import chunks, grouped
from taskfleet.messages.tasks import QueuedTask, TaskMessage, group, overhead_bytes
from taskfleet.tasks import Finished, Outcome, WorkerEnd
from taskfleet.version import VERSION

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
DATA = st.dictionaries(st.text(max_size=8), JSONS, max_size=3).map(lambda row: json.dumps(row, ensure_ascii=False))
OUTCOME_COUNTS = st.dictionaries(st.sampled_from([1, 2, 3, 5]), st.integers(1, 900), max_size=3).map(
    lambda counts: tuple(sorted(counts.items()))
)
CHAIN_TASKS = st.builds(
    ChainTask,
    st.integers(1, 1 << 40),
    st.text(min_size=1, max_size=30),
    st.text(min_size=1, max_size=20),
    st.text(max_size=100),
)
CHAINS = st.builds(Chain, st.integers(0, 1 << 40), st.lists(CHAIN_TASKS, max_size=3).map(tuple))
TASKS = st.builds(
    QueuedTask,
    st.integers(1, 1 << 40),
    st.text(min_size=1, max_size=30),
    DATA,
    st.integers(0, 999),
    OUTCOME_COUNTS,
    st.text(max_size=20),
    CHAINS,
).map(lambda task: task if task.function and task.chain.tasks else task._replace(chain=Chain()))
SAFE = "\t\n\r"


@given(st.lists(TASKS, min_size=1, max_size=10), st.floats(0, 2e9), st.text(max_size=5))
def test_a_message_of_tasks_comes_out_as_it_went_in(queued, not_before, claimed_by):
    sent = TaskMessage(
        job_id="job",
        ledger="1.5",
        tasks=queued,
        not_before=not_before,
        claimed_by=claimed_by,
        claimed_until=5.0 if claimed_by else 0.0,
    )
    body = tasks.pack(sent)
    found = tasks.unpack(body)
    assert [one._replace(data="") for one in found.tasks] == [one._replace(data="") for one in queued]
    assert [json.loads(one.data) for one in found.tasks] == [json.loads(one.data) for one in queued]
    assert (found.job_id, found.ledger, found.not_before, found.claimed_by) == ("job", "1.5", not_before, claimed_by)
    body.encode()  # whatever stood in the data, the message is proper Unicode ...
    assert not [c for c in body if (ord(c) < 32 and c not in SAFE) or c in "\ufffe\uffff"]  # ... and XML can carry it


@given(
    st.lists(st.text(max_size=200).map(lambda text: QueuedTask(7, "t", text)), max_size=20),
    st.integers(1, 7),
    st.integers(300, 2000),
)
def test_messages_are_filled_up_to_their_limits_in_order(queued, most, most_bytes):
    groups = list(group(queued, most=most, most_bytes=most_bytes))
    assert [one for chunk in groups for one in chunk] == queued
    for chunk, following in zip(groups, [*groups[1:], None], strict=False):
        size = sum(map(overhead_bytes, chunk))
        assert 0 < len(chunk) <= most
        assert size <= most_bytes or len(chunk) == 1
        if following:
            assert len(chunk) == most or size + overhead_bytes(following[0]) > most_bytes
        assert len(tasks.pack(TaskMessage(job_id="job", ledger="1", tasks=chunk)).encode()) <= size + 100


FINISHED = st.builds(
    Finished,
    st.integers(1, 1 << 40),
    st.integers(1, 999),
    st.sampled_from([int(outcome) for outcome in Outcome]),
    st.floats(0, 2e9),
    st.floats(0, 1e6),
    st.none() | DATA,
    st.none() | st.text(max_size=30),
    st.none() | st.text(max_size=30),
    st.none() | st.floats(0, 1000),
    st.none() | st.integers(-64, 255),
    st.none() | st.floats(0, 1e6),
)


def plausible(ended):
    """Give a success a result."""
    finished, retry = ended
    if finished.outcome == Outcome.SUCCEEDED and finished.result is None:
        finished = finished._replace(result="null")
    return finished, retry


ENDED = st.tuples(FINISHED, st.none() | st.floats(0, 1000)).map(plausible)
KEYS = st.lists(st.tuples(st.integers(1, 1 << 40), st.integers(1, 999)), max_size=5)


@given(st.lists(ENDED, max_size=5), KEYS, KEYS, st.sampled_from(["", "gpu"]))
def test_a_batch_of_events_comes_out_as_it_went_in(ended, leased, returned, manager):
    worker = Worker(source="w|1", hostname="höst", pid=7, slots=2, started_at=1.5, version="0.1.0", manager=manager)
    sent = Batch(
        job_id="job",
        ledger="1.5",
        worker=worker,
        number=3,
        reported_at=2.5,
        leased=leased,
        returned=returned,
        ended=ended,
    )
    body = events.pack(sent)
    found = events.unpack(body)
    body.encode()
    plain = [(one._replace(result=None), retry) for one, retry in found.ended]
    assert plain == [(one._replace(result=None), retry) for one, retry in ended]
    for (one, _), (other, _) in zip(found.ended, ended, strict=True):
        assert (one.result is None) == (other.result is None)
        assert one.result is None or json.loads(one.result) == json.loads(other.result)
    assert (found.worker, found.number, found.leased, found.returned) == (worker, 3, leased, returned)


@pytest.mark.parametrize("body", ["", "x", "{}", "[]", "null", '{"taskfleet": 1}', '{"taskfleet": 1, "tasks": [[1]]}'])
def test_what_is_no_message_of_ours_is_said(body):
    with pytest.raises(QueueError, match="taskfleet did not write"):
        tasks.unpack(body)
    with pytest.raises(QueueError, match="taskfleet did not write"):
        events.unpack(body)


@pytest.mark.parametrize("module", [tasks, events])
def test_a_message_of_a_newer_or_a_much_older_format_is_refused(module):
    with pytest.raises(
        NewerFormatError, match=rf"newer version of taskfleet \(format 3; taskfleet {VERSION} reads up to 2\)"
    ):
        module.unpack('{"taskfleet": 3}')
    with pytest.raises(QueueError, match=r"older version of taskfleet \(format 0"):
        module.unpack('{"taskfleet": 0}')


#: What the workers and commands of commit d7e5b3d wrote.
FIRST_TASKS = (
    '{"taskfleet":1,"job":"job","ledger":"1718000000.25","tasks":[[7,"t-7",0,[]],[8,"\\u00e4\\uffff",3,[[1,2],[5,1]]]]}\n'
    '{"n": 1}\n'
    '{"text": "é\\uffff"}'
)
FIRST_CLAIM = (
    '{"taskfleet":1,"job":"job","ledger":"1718000000.25","tasks":[[9,"t-9",1,[]]],"not_before":1718000900.5,'
    '"claimed_by":"worker|a|1/2","claimed_until":1718003600.0}\n'
    "{}"
)
FIRST_EVENTS = (
    '{"taskfleet":1,"job":"job","ledger":"1718000000.25",'
    '"worker":["worker|boot/1|77|1234","h\\u00f6st",77,2,1718000001.5,"i-0123"],"number":3,"told_at":1718000002.75,'
    '"end_reason":"","leased":[[1,1],[2,1]],"returned":[[3,2]]}\n'
    '[4,1,0,1718000001.0,0.5,true,null,"printed\\n",null,null,12.5,null]\n'
    '{"square": 16}\n'
    '[5,2,3,1718000001.25,0.25,false,"killed by SIGSEGV",null,null,-11,null,2.0]\n'
    '[6,1,7,1718000001.5,0.125,false,"later",null,30.0,null,null,30.0]'
)
FIRST_END = (
    '{"taskfleet":1,"job":"job","ledger":"","worker":["worker|boot/1|77|1234","h\\u00f6st",77,2,1718000001.5,"i-0123"],'
    '"number":4,"told_at":1718000003.0,"end_reason":"preempted","leased":[],"returned":[]}'
)
WORKER = Worker(
    source="worker|boot/1|77|1234", hostname="höst", pid=77, slots=2, started_at=1718000001.5, machine="i-0123"
)
TASKS_WRITTEN = TaskMessage(
    job_id="job",
    ledger="1718000000.25",
    tasks=[
        QueuedTask(seq=7, task_id="t-7", data='{"n": 1}'),
        QueuedTask(seq=8, task_id="ä\uffff", data='{"text": "é\\uffff"}', attempt=3, outcome_counts=((1, 2), (5, 1))),
    ],
)
CLAIM_WRITTEN = TaskMessage(
    job_id="job",
    ledger="1718000000.25",
    tasks=[QueuedTask(seq=9, task_id="t-9", data="{}", attempt=1)],
    not_before=1718000900.5,
    claimed_by="worker|a|1/2",
    claimed_until=1718003600.0,
)
EVENTS_WRITTEN = Batch(
    job_id="job",
    ledger="1718000000.25",
    worker=WORKER,
    number=3,
    reported_at=1718000002.75,
    leased=[(1, 1), (2, 1)],
    returned=[(3, 2)],
    ended=[
        EndedAttempt(
            Finished(
                seq=4,
                attempt=1,
                outcome=Outcome.SUCCEEDED,
                started_at=1718000001.0,
                elapsed_seconds=0.5,
                result='{"square": 16}',
                output="printed\n",
                peak_memory_mib=12.5,
            ),
            None,
        ),
        EndedAttempt(
            Finished(
                seq=5,
                attempt=2,
                outcome=Outcome.EXIT,
                started_at=1718000001.25,
                elapsed_seconds=0.25,
                error="killed by SIGSEGV",
                exit_code=-11,
            ),
            2.0,
        ),
        EndedAttempt(
            Finished(
                seq=6,
                attempt=1,
                outcome=Outcome.RETRY,
                started_at=1718000001.5,
                elapsed_seconds=0.125,
                error="later",
                retry_delay_seconds=30.0,
            ),
            30.0,
        ),
    ],
)
END_WRITTEN = Batch(
    job_id="job", ledger="", worker=WORKER, number=4, reported_at=1718000003.0, end_reason=WorkerEnd.PREEMPTED
)


@pytest.mark.parametrize(
    ("module", "text", "written"),
    [
        pytest.param(tasks, FIRST_TASKS, TASKS_WRITTEN, id="tasks"),
        pytest.param(tasks, FIRST_CLAIM, CLAIM_WRITTEN, id="a claim"),
        pytest.param(events, FIRST_EVENTS, EVENTS_WRITTEN, id="events"),
        pytest.param(events, FIRST_END, END_WRITTEN, id="an end"),
    ],
)
def test_the_first_workers_messages_are_read_and_they_read_ours(module, text, written):
    assert module.unpack(text) == written
    packed = module.pack(written).replace(',"ended":3}', "}")  # they ignore an unknown key of the header ...
    assert packed == text  # ... and refuse an array with another number of elements


#: What the first version with graphs writes.
GRAPH_TASKS = (
    '{"taskfleet":2,"job":"job","ledger":"1718000000.25","tasks":[[7,"t-7",0,[]],[8,"add-8",3,[[1,2]],"task:add"]]}\n'
    '{"n": 1}\n'
    '{"a": 2}'
)
GRAPH_WRITTEN = TaskMessage(
    job_id="job",
    ledger="1718000000.25",
    tasks=[
        QueuedTask(seq=7, task_id="t-7", data='{"n": 1}'),
        QueuedTask(seq=8, task_id="add-8", data='{"a": 2}', attempt=3, outcome_counts=((1, 2),), function="task:add"),
    ],
)


def test_only_messages_with_a_graphs_task_are_refused_by_workers_that_know_no_graphs():
    assert tasks.pack(GRAPH_WRITTEN) == GRAPH_TASKS
    assert tasks.unpack(GRAPH_TASKS) == GRAPH_WRITTEN
    assert json.loads(tasks.pack(TASKS_WRITTEN).split("\n")[0])["taskfleet"] == 1
    assert json.loads(events.pack(EVENTS_WRITTEN).split("\n")[0])["taskfleet"] == 1
    retried = GRAPH_WRITTEN.tasks[1].after(4, Outcome.EXCEPTION)
    assert retried.function == "task:add"


def test_a_function_is_read_in_format_2_only():
    """In format 1, an element more is what a later version added."""
    text = GRAPH_TASKS.replace('"taskfleet":2', '"taskfleet":1')
    assert [one.function for one in tasks.unpack(text).tasks] == ["", ""]
    with pytest.raises(QueueError, match="the function of a task is 5, not a text"):
        tasks.unpack(GRAPH_TASKS.replace('"task:add"', "5"))


def extended(text):
    """Add what a later version might: a key to the header, and an element to each array that is about one thing."""
    header, *lines = text.split("\n")
    header = json.loads(header) | {"functions": [{"name": "f"}]}
    for name in ("tasks", "worker"):
        fields = header.get(name, [])
        header[name] = [[*one, "later"] for one in fields] if name == "tasks" else [*fields, "later"]
    lines = [json.dumps([*json.loads(line), "later"]) if line.startswith("[") else line for line in lines]
    return "\n".join([json.dumps(header), *lines])


def test_what_a_later_version_adds_is_ignored():
    assert tasks.unpack(extended(FIRST_TASKS)) == TASKS_WRITTEN
    assert events.unpack(extended(FIRST_EVENTS)) == EVENTS_WRITTEN


def test_a_worker_that_ended_in_a_way_not_known_here_counts_as_stopped():
    assert events.unpack(FIRST_END.replace("preempted", "evicted")).end_reason is WorkerEnd.STOPPED


@pytest.mark.parametrize(
    ("module", "text"),
    [
        pytest.param(tasks, FIRST_TASKS, id="tasks"),
        pytest.param(events, FIRST_EVENTS[: FIRST_EVENTS.index('{"square"')], id="events"),
    ],
)
def test_a_message_whose_last_line_is_missing_is_refused(module, text):
    with pytest.raises(QueueError, match="taskfleet did not write"):
        module.unpack(text.rpartition("\n")[0])


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 7), st.integers(1, 20))
def test_groups_keep_the_order_and_both_limits_and_are_as_few_as_that_allows(sizes, most, most_size):
    groups = list(grouped(sizes, most=most, most_size=most_size, size_of=lambda size: size))
    assert [size for one in groups for size in one] == sizes
    for one, following in zip(groups, [*groups[1:], None], strict=False):
        assert 0 < len(one) <= most
        assert sum(one) <= most_size or len(one) == 1
        assert following is None or len(one) == most or sum(one) + following[0] > most_size


def test_chunks_are_full_but_for_the_last():
    assert list(chunks("abcdefg", 3)) == ["abc", "def", "g"]
    assert list(chunks([], 3)) == []
