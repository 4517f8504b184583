"""What to do about a file of the store that is missing or damaged: the task that returned its content has to run again."""

import re
from collections.abc import Callable

from taskfleet.ledger.database import Database
from taskfleet.tasks import ATTEMPTS_PER_TASK, Outcome

_FILE = re.compile(r"\b[0-9a-f]{2}/[0-9a-f]{64}\.[a-z]+\b")


def remedy(database: Database, error: str, command: Callable[[str], str], task_id: str = "") -> str:
    """Return what makes the file available again that an error is about; an empty text if it is about none.

    It reads all results of the job.

    Args:
        database: The job's ledger.
        error: The text of the error.
        command: Returns a command about the job as the user would type it.
        task_id: The task that failed with the error, and has to run again too; empty if none did.
    """
    found = _FILE.search(error)
    if found is None:
        return ""
    writer = database.value(
        f"SELECT id FROM attempt JOIN task ON task.seq = key / {ATTEMPTS_PER_TASK} "
        f"WHERE outcome = {Outcome.SUCCEEDED} AND instr(result, ?) ORDER BY key DESC LIMIT 1",
        (f'"{found[0]}"',),
    )
    if writer is not None:
        again = command(" ".join(filter(None, ["retry --with-descendants", writer, task_id])))
        return f"The file is the result of {writer}, which runs again with {again}"
    then = f", and then {command(f'retry {task_id}')}" if task_id else ""
    return f"No task has returned the file, so it is an argument: run the script again, which writes it{then}"
