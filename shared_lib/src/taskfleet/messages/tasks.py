"""Tasks as messages: what travels to a queue at a service.

A message is a line of JSON that says which job it is of and what its tasks have been through, and then a line for each task's data, as it
stands in the ledger. Such a line is never taken apart on the way.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.errors import QueueError
from taskfleet.tasks import Outcome

FORMAT = 1

#: What XML cannot carry, and so SQS does not take; in JSON text it stands inside strings only, where it can be escaped.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_ILLEGAL = re.compile("[\ud800-\udfff\ufffe\uffff]")


class Parcel(NamedTuple):
    """A task on its way."""

    seq: int
    task_id: str
    data: str
    """The function's keyword arguments, a JSON object."""
    attempt: int = 0
    """The number of its latest attempt."""
    tries: tuple[tuple[int, int], ...] = ()
    """How often it ended in which outcome so far, of those that count."""

    def after(self, attempt: int, outcome: Outcome | None = None, times: int = 1) -> "Parcel":
        """Give the task as it is after an attempt; without an outcome, one that costs it nothing."""
        tries = dict(self.tries)
        if outcome is not None:
            tries[int(outcome)] = tries.get(int(outcome), 0) + times
        return self._replace(attempt=attempt, tries=tuple(sorted(tries.items())))

    def tries_of(self, outcome: Outcome) -> int:
        """Say how often it ended so."""
        return dict(self.tries).get(int(outcome), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A message of tasks."""

    job_id: str
    ledger: str
    """Tells the job's ledger from an earlier one of the same name."""
    parcels: Sequence[Parcel]
    not_before: float = 0.0
    """Seconds since the epoch; for delays that are longer than a service's longest."""
    claimed_by: str = ""
    """The worker that is at it, and holds it no longer only because a service lets nobody hold a message for ever."""
    claimed_until: float = field(default=0.0)


def pack(envelope: Envelope) -> str:
    """Write a message."""
    header: dict[str, object] = {
        "taskfleet": FORMAT,
        "job": envelope.job_id,
        "ledger": envelope.ledger,
        "tasks": [parcel[:2] + parcel[3:] for parcel in envelope.parcels],
    }
    if envelope.not_before:
        header["not_before"] = envelope.not_before
    if envelope.claimed_by:
        header |= {"claimed_by": envelope.claimed_by, "claimed_until": envelope.claimed_until}
    lines = [json.dumps(header, separators=(",", ":")), *(parcel.data for parcel in envelope.parcels)]
    return carriable("\n".join(lines))


def unpack(body: str) -> Envelope:
    """Read a message.

    Raises:
        QueueError: It is not one of ours.
    """
    try:
        first, *data = body.split("\n")
        header = json.loads(first)
        if header["taskfleet"] != FORMAT:
            raise QueueError(
                f"A message in the queue was written by another version of taskfleet (format {header['taskfleet']}, this one reads "
                f"{FORMAT}). Use the same version everywhere."
            )
        parcels = [
            Parcel(seq, task_id, text, attempt, tuple((int(outcome), int(n)) for outcome, n in tries))
            for (seq, task_id, attempt, tries), text in zip(header["tasks"], data, strict=True)
        ]
        return Envelope(
            job_id=header["job"],
            ledger=header["ledger"],
            parcels=parcels,
            not_before=header.get("not_before", 0.0),
            claimed_by=header.get("claimed_by", ""),
            claimed_until=header.get("claimed_until", 0.0),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise QueueError(
            f"A message in the queue is not one of taskfleet's: {body[:80]!r}. Use a queue of the job's own."
        ) from error


def carriable(text: str) -> str:
    """Write the characters that a service would refuse in another way that means the same."""
    return text if text.isascii() else _ILLEGAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def overhead_bytes(parcel: Parcel) -> int:
    """Give how much a task takes of a message, at most; every character as an escape of six."""
    return (6 if not parcel.data.isascii() else 1) * len(parcel.data) + 6 * len(parcel.task_id) + 80


def group(parcels: Iterable[Parcel], *, most: int, most_bytes: int) -> Iterator[list[Parcel]]:
    """Share tasks out to messages of ``most`` tasks and ``most_bytes`` at most; one alone may be larger."""
    chunk: list[Parcel] = []
    size = 0
    for parcel in parcels:
        more = overhead_bytes(parcel)
        if chunk and (len(chunk) >= most or size + more > most_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(parcel)
        size += more
    if chunk:
        yield chunk
