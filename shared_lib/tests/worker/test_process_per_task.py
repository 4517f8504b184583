"""What a process per task costs, in memory pages: the number of those is the same on a busy machine."""

import json
import statistics
from contextlib import closing

import pytest
from taskfleet.ledger import calls
from taskfleet.ledger.database import create
from taskfleet.processes.tree import CAN_DIE_WITH_PARENT

from shared_lib.tests.worker.conftest import JOB

COUNTS = """
import resource
def run_task(n):
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
"""
TASKS = 40


@pytest.mark.skipif(not CAN_DIE_WITH_PARENT, reason="counts the pages that Linux copies after a fork")
def test_a_task_of_a_graph_copies_hardly_more_pages_than_one_of_a_table(project):
    project.write(COUNTS, TASKS_PER_PROCESS=1, SLOTS=1)
    project.insert({f"t{n}": {"n": n} for n in range(TASKS)})
    with closing(create(project.ledger_path, job_id=JOB, project=project.folder, now=0.0)) as database:
        function = calls.register_function(database, "task:run_task")
        calls.insert_calls(database, [calls.Call(f"g{n}", json.dumps({"n": n}), function) for n in range(TASKS)])
    project.work()
    of_tables, of_graphs = (
        statistics.median(project.result(f"{kind}{n}") for n in range(TASKS // 2, TASKS)) for kind in "tg"
    )
    assert of_graphs < 1.4 * of_tables
