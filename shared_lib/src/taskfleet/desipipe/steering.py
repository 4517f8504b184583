"""Finds queues by their names, and changes their tasks: retry, kill."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taskfleet.desipipe import places
from taskfleet.desipipe.queue import Queue
from taskfleet.errors import UsageError
from taskfleet.ledger import cancelling, repair
from taskfleet.tasks import State


def get_queue(queue: Any, create: bool | None = None, one: bool = True) -> Any:
    """Return a queue, or with ``one=False`` a list of them.

    Args:
        queue: A queue, a name, a pattern (see ``places.matching``), or a list of these.
        create: As for ``Queue``.
        one: Whether there has to be exactly one.

    Raises:
        UsageError: There is another number.
    """
    found: list[Queue] = []
    for given in queue if isinstance(queue, list | tuple) else [queue]:
        if isinstance(given, Queue):
            found.append(given)
        else:
            found += [
                Queue(str(path), create=create) for path in places.matching(str(given)) if _is_queue(path, create)
            ]
    if not one:
        return found
    if len(found) != 1:
        raise UsageError(f"{queue!r} stands for {len(found)} queues, not for one.")
    return found[0]


def _is_queue(path: Path, create: bool | None) -> bool:
    return create is not False or path.exists()


def retry(queue: Any, state: str | Sequence[str] = State.KILLED.name, **selection: Any) -> int:
    """Let tasks run again.

    Args:
        queue: One queue or several, see ``get_queue``.
        state: Only tasks in this state, or one of these. If tasks that succeeded return something else now, those that took their results
            run again too.
        **selection: ``tid``, ``mid``, ``name``, ``jobid``: see ``Queue.tasks``.

    Returns:
        The number of tasks.
    """
    n = 0
    for one in get_queue(queue, create=False, one=False):
        ids = one.tasks(property="tid", one=False, state=state, **selection)
        n += repair.rerun(one.database, [one.seq_of(task_id) for task_id in ids])
        n += repair.retry(one.database, ids=ids)
    return n


def kill(queue: Any, state: str | Sequence[str] = State.RUNNING.name, **selection: Any) -> int:
    """Kill tasks, and those that wait for them; the arguments are those of ``retry``. Workers kill the tasks that they run.

    Returns:
        The number of tasks.
    """
    n = 0
    for one in get_queue(queue, create=False, one=False):
        ids = one.tasks(property="tid", one=False, state=state, **selection)
        n += cancelling.cancel(one.database, cancelling.Selection(ids=ids)).cancelled
    return n
