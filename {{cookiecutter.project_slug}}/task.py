"""The work for one row of the table. Its columns are the arguments; replace the body of run_task with your own code."""

import os
import random
import time

from taskfleet import TaskContext, list_outputs, output_name


def run_task(num1: int, num2: int, context: TaskContext) -> dict:
    """Add two numbers. The return value is stored as the result; sum becomes the column result_sum."""
    simulate_failures()  # only for the example; remove it from your own task
    if context.output_path:
        context.write_output(f"{num1 + num2}\n", suffix=".txt")
    return {"sum": num1 + num2}


def filter_tasks(table, output_path):
    """Return the rows to insert: those without an output file."""
    done = list_outputs(output_path, suffix=".txt")
    return table[~table["task_id"].map(output_name).isin(done)] if done else table


def make_tasks():
    """Yield tasks in Python instead of reading a table: TASK_TABLE=task:make_tasks"""
    for number in range(1, 101):
        yield {"task_id": f"made-task-{number:03d}", "data": {"num1": number, "num2": number * number}}


def simulate_failures():
    """Delay, raise, hang or crash with the probabilities in config/task.env."""
    kinds = ("EXCEPTION", "TIMEOUT", "EXIT")
    drawn = [kind for kind in kinds if random.random() < float(os.environ.get(f"ADDITION_{kind}_PROBABILITY", "0"))]
    time.sleep(100_000 if "TIMEOUT" in drawn else float(os.environ.get("ADDITION_TASK_DELAY", "0")))
    if "EXCEPTION" in drawn:
        raise ZeroDivisionError("simulated by ADDITION_EXCEPTION_PROBABILITY")
    if "EXIT" in drawn:
        os._exit(1)
