"""Chains of tasks: what a message has of the tasks below a task of a graph, so that its worker can continue without the ledger.

A chain is a run of tasks of which each has the one before as its only parent, and that one has no other child. The worker that has a task's
result fills it into the data of the next task and sends that as a new message, with the rest of the chain.
"""

import re
from typing import Any, NamedTuple

from taskfleet.messages import fields

#: What stands for results of other tasks in the data of a graph's task. Texts in JSON have their quotation marks escaped, so this is
#: found without parsing; a user's own dict of this form is written as ``{"$dict":…}``.
REFERENCE = re.compile(r'(?<!\{"\$dict":)\{"\$(task|results|succeeded)":"([^"\\]+)"\}')
#: Upper bound of the bytes of a task of a chain besides its texts.
_OVERHEAD_BYTES = 40


class ChainTask(NamedTuple):
    """A task that waits for the one before it in a chain; a plain tuple, because there is one per task."""

    seq: int
    task_id: str
    function: str
    """As in ``QueuedTask``."""
    data: str
    """With references to the result of the task before."""


class Chain(NamedTuple):
    """The tasks below a task, in their order; none if the chain ends with that."""

    epoch: int = 0
    """As the ledger counted it when it sent the chain; workers send it back."""
    tasks: tuple[ChainTask, ...] = ()


def only_parent(data: str) -> str | None:
    """Return the id of the task whose result is all that a task waits for; None if it waits for several, or for a map."""
    found = set(REFERENCE.findall(data))
    if len(found) != 1:
        return None
    [(kind, task_id)] = found
    return str(task_id) if kind == "task" else None


def fill(data: str, result: str) -> str:
    """Return the data of a task with the result of its only parent, a JSON text, in place of each reference."""
    return REFERENCE.sub(lambda _: result, data)


def most_bytes(task: ChainTask) -> int:
    """Return an upper bound of the bytes of a task of a chain in a message, where its data are a text in the header."""
    data = task.data
    is_plain = data.isascii() and data.isprintable()
    size = len(data) + data.count('"') + data.count("\\") if is_plain else 12 * len(data)
    return size + 12 * (len(task.task_id) + len(task.function)) + _OVERHEAD_BYTES


def shortened(chain: Chain, most: int) -> Chain:
    """Return the beginning of a chain that takes at most so many bytes in a message."""
    size = 0
    for index, task in enumerate(chain.tasks):
        size += most_bytes(task)
        if size > most:
            return chain._replace(tasks=chain.tasks[:index])
    return chain


def encode(chain: Chain) -> list[object]:
    """Return the array of a chain."""
    return [chain.epoch, *chain.tasks]


def decode(values: Any) -> Chain:
    """Return the chain in an array.

    Raises:
        ValueError: A field is wrong.
    """
    epoch, *tasks = fields.listed(values, "a chain", 1)
    return Chain(fields.whole(epoch, "the epoch of a chain"), tuple(map(_decode_task, tasks)))


def _decode_task(values: Any) -> ChainTask:
    seq, task_id, function, data, *_ = fields.listed(values, "a task of a chain", 4)
    return ChainTask(
        seq=fields.seq(seq),
        task_id=fields.string(task_id, "the id of a task of a chain", least=1),
        function=fields.string(function, "the function of a task of a chain", least=1),
        data=fields.string(data, "the data of a task of a chain"),  # parsed once it is a task of a message
    )
