"""Chains of tasks in messages: what they take, where they are cut, and how a result gets into the next task."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.errors import QueueError
from taskfleet.messages import chains, events, tasks
from taskfleet.messages.chains import Chain, ChainTask
from taskfleet.messages.events import Batch, Worker
from taskfleet.messages.tasks import QueuedTask, TaskMessage, overhead_bytes

TEXTS = st.text(max_size=300) | st.text('"\\\\é€🐎', max_size=50)
TASK = QueuedTask(1, "a", '{"n":1}', function="task:f")


def below(*data):
    return tuple(ChainTask(n, f"t{n}", "task:f", text) for n, text in enumerate(data, start=2))


def packed(task):
    return tasks.pack(TaskMessage(job_id="job", ledger="1", tasks=[task]))


@given(st.builds(ChainTask, st.integers(1, 1 << 50), st.text(min_size=1, max_size=9), TEXTS, TEXTS))
def test_a_task_takes_at_most_what_is_said(task):
    assert len(json.dumps(task, separators=(",", ":")).encode()) <= chains.most_bytes(task)


@given(st.lists(TEXTS, max_size=6), st.integers(100, 5000))
def test_a_chain_is_cut_where_the_message_is_full(data, most):
    whole = TASK._replace(chain=Chain(1, below(*data)))
    task = whole.fitting(most)
    assert overhead_bytes(task) <= most or not task.chain.tasks
    n = len(task.chain.tasks)
    assert task.chain.tasks == whole.chain.tasks[:n]
    if n < len(data):
        assert overhead_bytes(whole._replace(chain=Chain(1, whole.chain.tasks[: n + 1]))) > most
    assert len(packed(task).encode()) <= overhead_bytes(task) + 100


def test_the_result_takes_the_place_of_every_reference_and_of_nothing_else():
    data = '{"x":{"$task":"a"},"y":[{"$dict":{"$task":"a"}},{"$task":"a"}],"z":"{\\"$task\\":\\"a\\"}"}'
    task = TASK._replace(chain=Chain(3, below(data, '{"z":{"$task":"t2"}}')))
    following = task.successor('{"r":"\\\\1 \\\\g<0>"}')
    assert json.loads(following.data) == {
        "x": {"r": "\\1 \\g<0>"},
        "y": [{"$dict": {"$task": "a"}}, {"r": "\\1 \\g<0>"}],
        "z": '{"$task":"a"}',
    }
    assert (following.seq, following.task_id, following.attempt, following.function) == (2, "t2", 0, "task:f")
    assert following.chain == Chain(3, task.chain.tasks[1:])
    assert following.successor("1").chain == Chain(3)


@pytest.mark.parametrize(
    ("data", "parent"),
    [
        ('{"x":{"$task":"a"}}', "a"),
        ('{"x":[{"$task":"a"},{"$task":"a"}]}', "a"),
        ('{"x":{"$task":"a"},"y":{"$task":"b"}}', None),
        ('{"x":{"$results":"a"}}', None),
        ('{"x":{"$succeeded":"a"}}', None),
        ('{"x":{"$dict":{"$task":"a"}}}', None),
        ('{"x":1}', None),
    ],
)
def test_only_a_task_with_one_parent_is_in_a_chain(data, parent):
    assert chains.only_parent(data) == parent


def test_a_worker_that_knows_no_chains_reads_the_message_without_them():
    """It takes the first five elements of the array of a task; the chain is the sixth."""
    text = packed(TASK._replace(chain=Chain(3, below('{"x":{"$task":"a"}}'))))
    header = json.loads(text.split("\n")[0])
    assert header["taskfleet"] == 2
    [array] = header["tasks"]
    assert array[:5] == [1, "a", 0, [], "task:f"]
    assert array[5:] == [[3, [2, "t2", "task:f", '{"x":{"$task":"a"}}']]]
    assert len(text.split("\n")) == 2
    assert packed(TASK) == text.replace(f",{json.dumps(array[5], separators=(',', ':'))}", "")


def test_a_monitor_that_knows_no_chains_reads_the_events_without_them():
    """It ignores unknown keys of the header."""
    worker = Worker(source="w", hostname="h", pid=1, slots=1, started_at=0.0)
    batch = Batch(job_id="job", ledger="1", worker=worker, number=1, reported_at=0.0, continued=[(2, 3)])
    text = events.pack(batch)
    header = json.loads(text)
    assert (header["taskfleet"], header.pop("continued")) == (1, [[2, 3]])
    assert events.unpack(text) == batch
    assert events.unpack(json.dumps(header)).continued == []


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("[3,[2,", '["3",[2,', "the epoch of a chain"),
        ("[3,[2,", "[3,[-2,", "the number of a task"),
        ('"t2"', '""', "the id of a task of a chain"),
        ('"t2","task:f"', '"t2",7', "the function of a task of a chain"),
        ('"{\\"x\\":1}"', "{}", "the data of a task of a chain"),
    ],
)
def test_the_reason_names_the_field_that_is_wrong(before, after, reason):
    text = packed(TASK._replace(chain=Chain(3, below('{"x":1}'))))
    assert before in text
    with pytest.raises(QueueError, match=reason):
        tasks.unpack(text.replace(before, after))
