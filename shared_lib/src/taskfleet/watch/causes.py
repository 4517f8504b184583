"""The causes of failures: errors that differ only in figures or names count as one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from taskfleet.ledger import dependencies, queries
from taskfleet.ledger.database import Database
from taskfleet.tasks import JSON, Outcome

#: The number of failed tasks that are examined for each kind of failure.
EXAMINED = 1000
#: What differs between errors with one cause: numbers, addresses and quoted values.
_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|0x[0-9a-fA-F]+|[-+]?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Failed tasks with the same cause; those that failed because of others have one cause for each first failure."""

    kind: Outcome
    n: int
    """Among the first EXAMINED failed tasks of the kind."""
    task_id: str
    """Of the first such task; for tasks that failed because of another, of that one."""
    reason: str
    """The first line of its error; for tasks that failed because of another, what happened to that one."""

    def to_json(self) -> JSON:
        """Return the object that ``poe status --json`` prints."""
        return {"kind": self.kind.word, "n": self.n, "task_id": self.task_id, "reason": self.reason}


def failure_causes(database: Database, kinds: Iterable[Outcome]) -> list[Cause]:
    """Return the causes of failures, by kind, the most frequent first; reading them does not take longer with more failures."""
    return [cause for kind in kinds for cause in _causes(database, kind)]


def _causes(database: Database, kind: Outcome) -> list[Cause]:
    if kind is Outcome.UPSTREAM:
        return [
            Cause(kind=kind, n=n, task_id=root.task_id, reason=root.sentence)
            for root, n in dependencies.root_causes(database, EXAMINED)
        ]
    causes: dict[str, Cause] = {}
    for one in sorted(queries.failure_reasons(database, kind, EXAMINED), key=lambda one: one.first_seq):
        key = _key(kind, one.reason)
        if known := causes.get(key):
            causes[key] = replace(known, n=known.n + one.n)
        else:
            causes[key] = Cause(kind=kind, n=one.n, task_id=one.task_id, reason=one.reason)
    return sorted(causes.values(), key=lambda cause: -cause.n)


def _key(kind: Outcome, reason: str) -> str:
    match kind:
        case Outcome.TIMEOUT | Outcome.MEMORY | Outcome.LOST:
            return ""
        case Outcome.EXIT:  # exit codes and signals differ in their numbers
            return reason
        case _:
            return _VARIABLE.sub("…", reason)
