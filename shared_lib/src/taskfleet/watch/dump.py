"""Writing a job's tasks to files by state, which together are the table they came from."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from taskfleet.files import open_private
from taskfleet.ledger import queries
from taskfleet.ledger.database import Database
from taskfleet.tasks import State


def dump_tasks(database: Database, folder: Path, job_id: str) -> list[tuple[Path, int]]:
    """Write ``JOB-STATE.json`` for each state that tasks are in: lists of ``{"task_id": …, "data": {…}}``, as an insertion reads them.

    Returns:
        Each file with its number of tasks.
    """
    paths: dict[State, Path] = {}
    counts: dict[State, int] = {}
    with ExitStack() as stack:
        files: dict[State, IO[str]] = {}
        for task_id, data, state in queries.all_tasks(database):
            if state not in files:
                paths[state] = folder / f"{job_id}-{state.word}.json"
                files[state] = stack.enter_context(open(paths[state], "w", encoding="utf-8", opener=open_private))
                counts[state] = 0
            file = files[state]
            file.write("[\n" if not counts[state] else ",\n")
            file.write(f'{{"task_id": {json.dumps(task_id)}, "data": {data}}}')
            counts[state] += 1
        for file in files.values():
            file.write("\n]\n")
    return [(paths[state], counts[state]) for state in sorted(paths)]
