"""Messages of tasks, as they are sent to a service queue.

A message is a line of JSON, the header, followed by one line for each task: its data as it is in the ledger, which is not parsed on
the way. The header has the job and, for each task, an array with the attempts it has had.

A reader ignores unknown keys of the header and additional elements at the end of an array, so a field that older workers can do without
may be added. Any other change needs a new ``FORMAT``. The first workers refuse additional elements: while they are in use, a new field has
to be a key of the header.

In format 2, the array of a graph's task has the name of its function as the fifth element: a worker that does not know it would call
another function. Messages without such a task are in format 1. The sixth element is the chain of tasks below it (see ``chains``). A worker
that does not know it leaves these to the ledger, so it needs no format of its own.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskfleet.messages import chains, fields
from taskfleet.messages.chains import Chain
from taskfleet.messages.formats import FIRST_FORMAT, FORMAT, check_format, foreign
from taskfleet.messages.grouping import grouped
from taskfleet.tasks import LAST_ATTEMPT, Outcome

#: Characters that XML, and therefore SQS, does not allow. In JSON they occur only inside strings, where they can be escaped.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_ILLEGAL = re.compile("[\ud800-\udfff\ufffe\uffff]")
#: More than the deliveries that any service counts.
_MOST_TIMES = 1_000_000


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
    function: str = ""
    """The function of a graph's task, as in ``Lease``; empty for TASK_FUNCTION."""
    chain: Chain = Chain()
    """The tasks below it that its worker may send once it has succeeded."""

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

    def successor(self, result: str) -> "QueuedTask":
        """Return the next task of its chain, which has one, with its result in the data."""
        (seq, task_id, function, data), *rest = self.chain.tasks
        chain = self.chain._replace(tasks=tuple(rest))
        return QueuedTask(seq, task_id, chains.fill(data, result), function=function, chain=chain)

    def fitting(self, most_bytes: int) -> "QueuedTask":
        """Return the task with as much of its chain as a message of so many bytes can hold."""
        if overhead_bytes(self) <= most_bytes:
            return self
        own = self._replace(chain=Chain())
        return self._replace(chain=chains.shortened(self.chain, most_bytes - overhead_bytes(own)))

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
        "taskfleet": FORMAT if any(task.function for task in message.tasks) else FIRST_FORMAT,
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
        MisdirectedMessageError: It was written by a version of the library whose messages this one does not read.
        ForeignMessageError: It is not a message of this library, or is damaged.
    """
    try:
        first, *data = body.split("\n")
        header = fields.mapping(fields.decode(first), "the header")
        check_format(header["taskfleet"])
        has_functions = header["taskfleet"] > FIRST_FORMAT
        tasks = fields.listed(header["tasks"], "tasks", 1)
        if len(tasks) != len(data):
            raise ValueError(f"its header has {len(tasks)} tasks, and {len(data)} lines follow")
        return TaskMessage(
            job_id=fields.string(header["job"], "job", least=1),
            ledger=fields.string(header["ledger"], "ledger"),
            tasks=[_decode(one, line, has_functions) for one, line in zip(tasks, data, strict=True)],
            not_before=fields.number(header.get("not_before", 0.0), "not_before", fields.LATEST_TIME),
            claimed_by=fields.string(header.get("claimed_by", ""), "claimed_by"),
            claimed_until=fields.number(header.get("claimed_until", 0.0), "claimed_until", fields.LATEST_TIME),
        )
    except (ValueError, KeyError, RecursionError) as error:
        raise foreign(body, error) from error


def _encode(task: QueuedTask) -> list[object]:
    """Return the array of a task in the header: everything except its data."""
    values: list[object] = [task.seq, task.task_id, task.attempt, task.outcome_counts]
    if task.function:
        values.append(task.function)
        if task.chain.tasks:
            values.append(chains.encode(task.chain))
    return values


def _decode(values: Any, data: str, has_functions: bool) -> QueuedTask:
    """Return the task in an array of the header and the line of its data."""
    seq, task_id, attempt, counts, *rest = fields.listed(values, "a task", 4)
    fields.mapping(fields.json_text(data, "the data of a task"), "the data of a task")
    return QueuedTask(
        seq=fields.seq(seq),
        task_id=fields.string(task_id, "the id of a task", least=1),
        data=data,
        attempt=fields.attempt(attempt, 0),
        outcome_counts=tuple(map(_decode_count, fields.listed(counts, "the outcomes of a task"))),
        function=fields.string(rest[0], "the function of a task") if has_functions and rest else "",
        chain=chains.decode(rest[1]) if has_functions and len(rest) > 1 else Chain(),
    )


def _decode_count(values: Any) -> tuple[int, int]:
    outcome, times, *_ = fields.listed(values, "the count of an outcome", 2)
    return fields.outcome(outcome), fields.whole(times, "the count of an outcome", 0, _MOST_TIMES)


def carriable(text: str) -> str:
    """Escape the characters that a service would refuse."""
    return text if text.isascii() else _ILLEGAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def overhead_bytes(task: QueuedTask) -> int:
    """Return an upper bound of the bytes of a task in a message, with six for each escaped character."""
    own = (6 if not task.data.isascii() else 1) * len(task.data) + 6 * (len(task.task_id) + len(task.function)) + 80
    return own + sum(map(chains.most_bytes, task.chain.tasks)) if task.chain.tasks else own


def group(tasks: Iterable[QueuedTask], *, most: int, most_bytes: int) -> Iterator[list[QueuedTask]]:
    """Yield tasks in groups for messages of at most ``most`` tasks and ``most_bytes``; a single task may be larger."""
    return grouped(tasks, most=most, most_size=most_bytes, size_of=overhead_bytes)
