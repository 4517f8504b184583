"""The control document of a job: what reaches workers at a service while they work. It is one JSON text, and small.

Cancelled tasks are in it as runs of numbers, from the moment when they are cancelled until their messages are gone.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from taskfleet.messages import fields
from taskfleet.messages.formats import FORMAT, ForeignMessageError, MisdirectedMessageError, check_format, foreign


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlDocument:
    """What workers of a job have to know."""

    job_id: str
    ledger: str
    """As in ``TaskMessage``."""
    version: int
    """Of this ledger; the highest is the newest."""
    is_paused: bool = False
    cancelled: Sequence[tuple[int, int]] = ()
    """Runs of numbers of tasks, (first, last), in order."""
    chain_epoch: int = 0
    """The epoch of the chains that go on; those of earlier ones end with the task that runs."""

    def has_ended(self, ledger: str, epoch: int) -> bool:
        """Return whether the chains of an epoch of a ledger do not go on."""
        return ledger == self.ledger and epoch < self.chain_epoch

    def has_cancelled(self, ledger: str, seq: int) -> bool:
        """Return whether a task of a ledger is cancelled."""
        if ledger != self.ledger:
            return False
        index = bisect_right(self.cancelled, seq, key=lambda run: run[0]) - 1
        return index >= 0 and seq <= self.cancelled[index][1]


def as_runs(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """Return numbers, which are in order, as runs."""
    runs: list[tuple[int, int]] = []
    for seq in seqs:
        if runs and runs[-1][1] == seq - 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs


def pack(document: ControlDocument) -> str:
    """Return a document as text."""
    values: dict[str, object] = {
        "taskfleet": FORMAT,
        "job": document.job_id,
        "ledger": document.ledger,
        "version": document.version,
        "paused": document.is_paused,
        "cancelled": document.cancelled,
    }
    if document.chain_epoch:
        values["chain_epoch"] = document.chain_epoch
    return json.dumps(values, separators=(",", ":"))


def unpack(text: str) -> ControlDocument:
    """Return the document in a text.

    Raises:
        MisdirectedMessageError: It was written by a version of the library whose documents this one does not read.
        ForeignMessageError: It is not a control document, or is damaged.
    """
    try:
        values = fields.mapping(fields.decode(text), "the document")
        check_format(values["taskfleet"])
        if type(values["paused"]) is not bool:
            raise fields.wrong("paused", values["paused"], "true or false")
        return ControlDocument(
            job_id=fields.string(values["job"], "job", least=1),
            ledger=fields.string(values["ledger"], "ledger"),
            version=fields.whole(values["version"], "version"),
            is_paused=values["paused"],
            cancelled=[_decode_run(one) for one in fields.listed(values["cancelled"], "cancelled")],
            chain_epoch=fields.whole(values.get("chain_epoch", 0), "chain_epoch"),
        )
    except (ValueError, KeyError, RecursionError) as error:
        raise foreign(text, error) from error


def version_of(text: str) -> int:
    """Return the version of the document in a text; -1 if it is no document."""
    try:
        return unpack(text).version
    except (ForeignMessageError, MisdirectedMessageError):
        return -1


def _decode_run(values: Any) -> tuple[int, int]:
    first, last, *_ = fields.listed(values, "a run of tasks", 2)
    return fields.seq(first), fields.seq(last)
