"""What futures and maps of them answer before anything runs, and in sessions without a script."""

import sys

import pytest
from taskfleet.graph import flow

SOME = """
@app
def add(x, y=0): return x + y
"""


def test_a_map_is_a_sequence_of_futures(project):
    with project.calls(SOME) as (task, _):
        many = task.add.map(range(2500))
        assert len(many) == 2500
        assert [one.id for one in many] == many.ids()
        assert many[-1].id == task.add(2499).id
        assert [one.id for one in many[10:20:3]] == many.ids()[10:20:3]
        assert len(many[5:5]) == 0
        assert len(many[::-1]) == 2500
        assert many[:3][1].id == many[1].id
        assert repr(many) == "<2,500 Futures>"
        assert repr(many[0]) == f"<Future {many[0].id}>"
        assert many.counts() == {"pending": 2500}
        with pytest.raises(IndexError):
            many[2500]
        with pytest.raises(TimeoutError, match="2,500 tasks have not ended in time"):
            many.result(timeout=0)


def test_a_future_has_a_state_although_it_was_not_sent(project, monkeypatch):
    monkeypatch.setattr(sys.modules[flow.__module__], "BUFFER_SECONDS", 1e6)
    with project.calls(SOME) as (task, one):
        future = task.add(task.add(1))
        assert one.added == 0
        assert future.state == "waiting"
        assert one.added == 2
        assert not future.done()
        assert future.output() == ""


def test_more_calls_than_one_batch_has(project):
    """They refer to calls of their own batch and of earlier ones."""
    with project.calls(SOME) as (task, one):
        first = task.add(0)
        futures = [task.add(n, first) for n in range(1, 10_500)]
        last = task.add(futures[0], futures[-1])
    assert one.added == 10_501
    database = one.database
    edges = database.value("SELECT count(*) FROM edge")
    assert edges == 10_499 + 2
    assert {future.state for future in (futures[0], futures[-1], last)} == {"waiting"}


SESSION = """
from taskfleet.graph import app, flow
import task
with flow("job") as one:
    assert app(task.add)(1).result() == 1
    def mine(x): return x + 1
    assert app(mine)(1).result() == 2
"""


def test_a_session_without_a_script(project):
    """Functions of modules work as in a script, and its own ones by value."""
    project.file("task.py", "def add(x): return x\n")
    project.start(command=("-c", SESSION)).wait()
