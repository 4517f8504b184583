"""What is done for each row of the table. The columns arrive as arguments; put your own work into run_task."""

import os
import random
import time
from pathlib import Path

from taskfleet import TaskContext


def run_task(num1: int, num2: int, context: TaskContext, output_path: str | None = None) -> dict:
    """Add two numbers. What is returned is kept as the result; sum becomes the column result_sum."""
    rehearse_trouble()  # for trying things out; leave it out of a task of your own
    if output_path:
        Path(output_path).mkdir(parents=True, exist_ok=True)
        Path(output_path, f"{context.task_id}.txt").write_text(f"{num1 + num2}\n")
    return {"sum": num1 + num2}


def filter_tasks(table, output_path):
    """Return the rows still to do: those whose file is not there yet."""
    done = [file.stem for file in Path(output_path).glob("*.txt")] if output_path else []
    return table[~table["task_id"].isin(done)] if done else table


def make_tasks():
    """Make tasks in Python instead of reading a table: TASK_TABLE=task:make_tasks"""
    for number in range(1, 101):
        yield {"task_id": f"made-task-{number:03d}", "data": {"num1": number, "num2": number * number}}


def rehearse_trouble():
    """Be slow, raise, hang or crash as often as the variables in config/task.env say."""
    odds = {way: float(os.environ.get(f"ADDITION_{way}_PROBABILITY", "0")) for way in ("EXCEPTION", "TIMEOUT", "EXIT")}
    drawn = [way for way in odds if random.random() < odds[way]]
    time.sleep(100_000 if "TIMEOUT" in drawn else float(os.environ.get("ADDITION_TASK_DELAY", "0")))
    if "EXCEPTION" in drawn:
        raise ZeroDivisionError("ADDITION_EXCEPTION_PROBABILITY asked for this")
    if "EXIT" in drawn:
        os._exit(1)
