"""Messages of tasks, as they are sent to a service queue.

A message is a line of JSON, the header, followed by one line for each task: its data as it is in the ledger, which is not parsed on
the way. The header has the job and, for each task, an array with the attempts it has had.

A reader ignores unknown keys of the header and additional elements at the end of an array, so a field that older workers can do without
may be added. Any other change needs a new ``FORMAT``. The first workers refuse additional elements: while they are in use, a new field has
to be a key of the header.
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

#: Characters that XML, and therefore SQS, does not allow. In JSON they occur only inside strings, where they can be escaped.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_ILLEGAL = re.compile("[\ud800-\udfff\ufffe\uffff]")


class QueuedTask(NamedTuple):
    """A task in a message; a plain tuple, because there is one per task."""

    seq: int
    """Its position in the job, from 1."""
    task_id: str
    data: str
    """The function's keyword arguments, a JSON object."""
    attempt: int = 0
    """The number of its latest attempt."""
    outcome_counts: tuple[tuple[int, int], ...] = ()
    """(outcome, number of attempts that ended with it) for the outcomes that count against a cap, in their order."""

    @property
    def next_attempt(self) -> int:
        """The number of its next attempt. A task that has used all numbers keeps the last one."""
        return min(self.attempt + 1, LAST_ATTEMPT)

    def after(self, attempt: int, outcome: Outcome | None = None, times: int = 1) -> "QueuedTask":
        """Return the task after an attempt; without an outcome, after one that does not count against a cap."""
        counts = dict(self.outcome_counts)
        if outcome is not None:
            counts[int(outcome)] = counts.get(int(outcome), 0) + times
        return self._replace(attempt=min(attempt, LAST_ATTEMPT), outcome_counts=tuple(sorted(counts.items())))

    def count_of(self, outcome: Outcome) -> int:
        """Return the number of its attempts that ended with an outcome."""
        for one, times in self.outcome_counts:
            if one == outcome:
                return times
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMessage:
    """A message of tasks."""

    job_id: str
    ledger: str
    """Distinguishes the job's ledger from an earlier one of the same name."""
    tasks: Sequence[QueuedTask]
    not_before: float = 0.0
    """Seconds since the epoch; for delays that are longer than the service allows."""
    claimed_by: str = ""
    """The worker that runs its tasks, if the message was sent again only because its lease could not be extended further."""
    claimed_until: float = 0.0
    """Seconds since the epoch."""


def pack(message: TaskMessage) -> str:
    """Return a message as text."""
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
    """Return the message in a text.

    Raises:
        NewerFormatError: It was written by a later version of the library.
        QueueError: It is not a message of this library.
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
            f"The queue has a message that taskfleet did not write: {body[:80]!r}. Use a queue for this job alone."
        ) from error


def _encode(task: QueuedTask) -> list[object]:
    """Return the array of a task in the header: everything except its data."""
    return [task.seq, task.task_id, task.attempt, task.outcome_counts]


def _decode(fields: list[Any], data: str) -> QueuedTask:
    """Return the task in an array of the header and the line of its data."""
    seq, task_id, attempt, counts, *_ = fields
    outcome_counts = tuple((int(outcome), int(times)) for outcome, times in counts)
    return QueuedTask(seq=seq, task_id=task_id, data=data, attempt=attempt, outcome_counts=outcome_counts)


def carriable(text: str) -> str:
    """Escape the characters that a service would refuse."""
    return text if text.isascii() else _ILLEGAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def overhead_bytes(task: QueuedTask) -> int:
    """Return an upper bound of the bytes of a task in a message, with six for each escaped character."""
    return (6 if not task.data.isascii() else 1) * len(task.data) + 6 * len(task.task_id) + 80


def group(tasks: Iterable[QueuedTask], *, most: int, most_bytes: int) -> Iterator[list[QueuedTask]]:
    """Yield tasks in groups for messages of at most ``most`` tasks and ``most_bytes``; a single task may be larger."""
    return grouped(tasks, most=most, most_size=most_bytes, size_of=overhead_bytes)
