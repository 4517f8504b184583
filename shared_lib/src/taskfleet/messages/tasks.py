"""Tasks as messages: what travels to a queue at a service.

A message is a line of JSON, its header, and then a line for each task's data, as it stands in the ledger. Such a line is never taken
apart on the way. The header says which job the message is of and, in an array for each task, what the task has been through.

A reader ignores keys of the header that it does not know, and further elements at the end of an array, so fields that an older worker may
do without can be added; for any other change ``FORMAT`` grows. The first workers refuse further elements: while they are in use, a field
that is added has to be a key of the header.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskfleet.errors import QueueError
from taskfleet.messages.formats import FORMAT, check_format
from taskfleet.messages.grouping import grouped
from taskfleet.tasks import LAST_ATTEMPT, Outcome

#: What XML cannot carry, and so SQS does not take; in JSON text it stands inside strings only, where it can be escaped.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_ILLEGAL = re.compile("[\ud800-\udfff\ufffe\uffff]")


class QueuedTask(NamedTuple):
    """A task on its way; a plain tuple, because there is one per task."""

    seq: int
    """Its position in the job, from 1."""
    task_id: str
    data: str
    """The function's keyword arguments, a JSON object."""
    attempt: int = 0
    """The number of its latest attempt."""
    tries: tuple[tuple[int, int], ...] = ()
    """(outcome, how often it ended so), of the outcomes that count against a cap, in their order."""

    @property
    def next_attempt(self) -> int:
        """The number of its next attempt. A task that has used all numbers keeps the last one."""
        return min(self.attempt + 1, LAST_ATTEMPT)

    def after(self, attempt: int, outcome: Outcome | None = None, times: int = 1) -> "QueuedTask":
        """Return the task as it is after an attempt; without an outcome, after one that costs it no try."""
        tries = dict(self.tries)
        if outcome is not None:
            tries[int(outcome)] = tries.get(int(outcome), 0) + times
        return self._replace(attempt=min(attempt, LAST_ATTEMPT), tries=tuple(sorted(tries.items())))

    def tries_of(self, outcome: Outcome) -> int:
        """Return how often it ended so."""
        for one, times in self.tries:
            if one == outcome:
                return times
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMessage:
    """A message of tasks."""

    job_id: str
    ledger: str
    """Tells the job's ledger from an earlier one of the same name."""
    tasks: Sequence[QueuedTask]
    not_before: float = 0.0
    """Seconds since the epoch; for delays that are longer than a service's longest."""
    claimed_by: str = ""
    """The worker that runs its tasks, and holds it no longer only because a service lets nobody hold a message for ever."""
    claimed_until: float = 0.0
    """Seconds since the epoch."""


def pack(message: TaskMessage) -> str:
    """Write a message."""
    header: dict[str, object] = {
        "taskfleet": FORMAT,
        "job": message.job_id,
        "ledger": message.ledger,
        "tasks": [_encode(task) for task in message.tasks],
    }
    if message.not_before:
        header["not_before"] = message.not_before
    if message.claimed_by:
        header |= {"claimed_by": message.claimed_by, "claimed_until": message.claimed_until}
    lines = [json.dumps(header, separators=(",", ":")), *(task.data for task in message.tasks)]
    return carriable("\n".join(lines))


def unpack(body: str) -> TaskMessage:
    """Read a message.

    Raises:
        NewerFormatError: A later version of the library wrote it.
        QueueError: It is not one of ours.
    """
    try:
        first, *data = body.split("\n")
        header = json.loads(first)
        check_format(header["taskfleet"])
        return TaskMessage(
            job_id=header["job"],
            ledger=header["ledger"],
            tasks=[_decode(fields, text) for fields, text in zip(header["tasks"], data, strict=True)],
            not_before=header.get("not_before", 0.0),
            claimed_by=header.get("claimed_by", ""),
            claimed_until=header.get("claimed_until", 0.0),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise QueueError(
            f"A message in the queue is not one of taskfleet's: {body[:80]!r}. Use a queue of the job's own."
        ) from error


def _encode(task: QueuedTask) -> list[object]:
    """Return a task's array in the header, which has all but its data; see ``_decode``."""
    return [task.seq, task.task_id, task.attempt, task.tries]


def _decode(fields: list[Any], data: str) -> QueuedTask:
    """Read a task from its array in the header and the line of its data; see ``_encode``."""
    seq, task_id, attempt, tries, *_ = fields
    counts = tuple((int(outcome), int(times)) for outcome, times in tries)
    return QueuedTask(seq=seq, task_id=task_id, data=data, attempt=attempt, tries=counts)


def carriable(text: str) -> str:
    """Write the characters that a service would refuse in another way that means the same."""
    return text if text.isascii() else _ILLEGAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def overhead_bytes(task: QueuedTask) -> int:
    """Return how many bytes a task takes of a message, at most; every character as an escape of six."""
    return (6 if not task.data.isascii() else 1) * len(task.data) + 6 * len(task.task_id) + 80


def group(tasks: Iterable[QueuedTask], *, most: int, most_bytes: int) -> Iterator[list[QueuedTask]]:
    """Divide tasks among messages of ``most`` tasks and ``most_bytes`` at most; one alone may be larger."""
    return grouped(tasks, most=most, most_size=most_bytes, size_of=overhead_bytes)
