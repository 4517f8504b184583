"""Tests of your task: uv run poe test"""

from pathlib import Path

import pandas as pd
from taskfleet import TaskContext
from taskfleet.testing import check_table

import task

PROJECT = Path(__file__).parents[1]


def test_the_sum_is_returned():
    context = TaskContext.for_test(task_id="addition-task-000001")
    assert task.run_task(num1=-84808, num2=-71224, context=context) == {"sum": -156032}


def test_a_task_with_an_output_file_is_not_inserted_again(tmp_path):
    context = TaskContext.for_test(task_id="addition-task-000001", output_path=str(tmp_path))
    task.run_task(num1=2, num2=3, context=context)
    assert (tmp_path / "addition-task-000001.txt").read_text() == "5\n"

    table = pd.DataFrame({"task_id": ["addition-task-000001", "addition-task-000002"], "num1": [2, 4], "num2": [3, 5]})
    assert list(task.filter_tasks(table, str(tmp_path))["task_id"]) == ["addition-task-000002"]


def test_without_an_output_path_all_rows_are_inserted():
    table = pd.DataFrame({"task_id": ["addition-task-000001"], "num1": [2], "num2": [3]})
    assert task.filter_tasks(table, None) is table


def test_every_row_of_the_table_matches_the_function():
    check_table(str(PROJECT / "tasks.json"), task.run_task)
