"""The words of a job: what states a task goes through and how an attempt at it can end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

#: Any JSON value; the only place where the library allows ``Any``-like looseness.
JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

#: An attempt's key in the ledger is its task's sequence number times this, plus its number (see ``attempt_key``).
ATTEMPTS_PER_TASK = 1000
#: The highest number an attempt can have.
LAST_ATTEMPT = ATTEMPTS_PER_TASK - 1


class State(IntEnum):
    """Where a task stands. The numbers are stored in the ledger and never change."""

    WAITING = 0
    """It depends on tasks that have not succeeded yet."""
    PENDING = 1
    """It can be leased, now or after its retry delay."""
    RUNNING = 2
    """A worker holds a lease on it."""
    SUCCEEDED = 3
    """An attempt returned; its result is kept."""
    FAILED = 4
    """No further attempt will be made unless somebody asks for it (``poe retry``)."""
    KILLED = 5
    """Somebody took it out of the queue (``poe purge_queue``)."""

    @property
    def word(self) -> str:
        """The state as users write it: lower case."""
        return self.name.lower()


class Outcome(IntEnum):
    """How one attempt ended. The numbers are stored in the ledger and never change."""

    SUCCEEDED = 0
    """The function returned a value that JSON can carry."""
    EXCEPTION = 1
    """The function raised, or returned what JSON cannot carry."""
    TIMEOUT = 2
    """It ran longer than ``MAX_RUNTIME_SECONDS`` and was killed."""
    EXIT = 3
    """Its process ended before the function returned: a crash, a signal, ``os._exit``."""
    MEMORY = 4
    """It used more memory than ``MEMORY_LIMIT_GIB`` and was killed."""
    LOST = 5
    """Its worker's lease ran out: the worker or its machine died."""
    UPSTREAM = 6
    """A task it depends on failed."""
    RETRY = 7
    """The function asked for another try."""
    INTERRUPTED = 8
    """The worker was stopped meanwhile; this never costs the task one of its tries."""

    @property
    def word(self) -> str:
        """The outcome as users write it: lower case."""
        return self.name.lower()


#: The outcomes that can be the kind of a failure, in the order in which reports list them.
FAILURE_KINDS = (
    Outcome.EXCEPTION,
    Outcome.TIMEOUT,
    Outcome.EXIT,
    Outcome.MEMORY,
    Outcome.LOST,
    Outcome.UPSTREAM,
)


class WorkerEnd(StrEnum):
    """How a worker ended. The words are stored in ledgers and sent in events, and never change."""

    STOPPED = "stopped"
    """There was nothing left for it to do, or somebody stopped it."""
    PREEMPTED = "preempted"
    """A termination notice for its machine had come."""
    FAILED = "failed"
    """It met an error of its own."""
    LOST = "lost"
    """It was not heard of for so long that it counts as dead."""
    RELEASED = "released"
    """Somebody revoked its leases (``poe release``)."""

    @classmethod
    def read(cls, word: str) -> "WorkerEnd":
        """Return what a stored or sent word means; one of a later version, which is unknown here, counts as ``STOPPED``."""
        try:
            return cls(word)
        except ValueError:
            return cls.STOPPED


#: What one attempt is known by in a worker: (seq, attempt).
AttemptKey = tuple[int, int]


class Lease(NamedTuple):
    """The right of one worker to try one task; a plain tuple, because there is one per task."""

    seq: int
    """The task's position in the job, from 1."""
    attempt: int
    """The attempt's number, from 1; with the worker it fences late finishers out."""
    task_id: str
    data: str
    """The function's keyword arguments, a JSON object."""

    @property
    def key(self) -> AttemptKey:
        """Which attempt it is for."""
        return self.seq, self.attempt


class Finished(NamedTuple):
    """What became of one attempt; a plain tuple, because there is one per task."""

    seq: int
    attempt: int
    outcome: int
    started_at: float
    """Seconds since the epoch."""
    elapsed_seconds: float
    result: str | None = None
    """The returned value as JSON text, if it succeeded."""
    error: str | None = None
    """What went wrong: one line, then the traceback if there is one."""
    output: str | None = None
    """The end of what the attempt printed, if it printed anything."""
    retry_delay_seconds: float | None = None
    """The delay the function asked for with ``Retry``; negative when it forbade a retry with ``Fail``."""
    exit_code: int | None = None
    """Of the attempt's process, if it ended before the function returned; negative for a signal."""
    peak_memory_mib: float | None = None
    """The most memory its process held, if it had a process of its own."""

    @property
    def key(self) -> AttemptKey:
        """Which attempt it was."""
        return self.seq, self.attempt


class LeaseLostError(Exception):
    """The worker's lease ran out, or somebody released it; its tasks belong to others now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishReport:
    """What the ledger made of a batch of finished attempts; what is not listed here came to its end.

    By (seq, attempt), as a batch may hold an attempt that had lost its lease and a later one at the same task.
    """

    duplicates: set[AttemptKey] = field(default_factory=set)
    """Attempts that had lost their lease: nothing was changed."""
    retry_delay_seconds: dict[AttemptKey, float] = field(default_factory=dict)
    """Attempts after which the task gets another try, and when."""


#: A task that was lost so often with its worker may be why.
SUSPECT_LOSSES = 2

#: The value of ``Finished.retry_delay_seconds`` that forbids another try.
NO_RETRY = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How many more tries a task gets after each kind of unsuccessful attempt, and when.

    The n-th retry of a kind waits ``delay_seconds * 2**(n-1)``, at most ``max_delay_seconds``; one whose worker was lost does not wait.
    """

    retries: dict[Outcome, int]
    delay_seconds: float = 1.0
    max_delay_seconds: float = 300.0
    delays: Mapping[Outcome, tuple[float, float | None]] = field(default_factory=dict)
    """For some kinds, what stands in for ``delay_seconds`` and, unless None, for ``max_delay_seconds``."""

    def delay_after(self, finished: Finished, earlier: int, *, has_begun: bool = True) -> float | None:
        """Return after how many seconds a task gets another try once an attempt at it has ended; None if it gets none.

        The whole decision, for every kind of queue: a delay that the function asked for replaces the policy's, but lifts no cap.

        Args:
            finished: How the attempt ended.
            earlier: How many attempts of this task ended the same way before this one, of those that count.
            has_begun: False if the attempt was lost with a worker that may not have begun it: see ``delay_before_loss``.
        """
        outcome = Outcome(finished.outcome)
        if outcome is Outcome.SUCCEEDED or finished.retry_delay_seconds == NO_RETRY:
            return None
        if finished.attempt >= LAST_ATTEMPT and outcome is not Outcome.INTERRUPTED:
            return None
        delay = self.delay_before_retry(outcome, earlier) if has_begun else self.delay_before_loss(earlier)
        if delay is None or finished.retry_delay_seconds is None:
            return delay
        return finished.retry_delay_seconds

    def delay_before_retry(self, finished_outcome: Outcome, earlier: int) -> float | None:
        """Return after how many seconds to try again, or None if the cap is reached.

        Args:
            finished_outcome: How the attempt ended.
            earlier: How many attempts of this task ended the same way before this one.
        """
        if finished_outcome is Outcome.INTERRUPTED:
            return 0.0
        if earlier >= self.retries.get(finished_outcome, 0):
            return None
        usual = 0.0 if finished_outcome is Outcome.LOST else self.delay_seconds
        first, longest = self.delays.get(finished_outcome, (usual, None))
        return float(min(first * 2.0 ** min(earlier, 60), self.max_delay_seconds if longest is None else longest))

    def delay_before_loss(self, earlier: int) -> float | None:
        """As ``delay_before_retry``, for a task whose worker died, which may not have begun it: the first time costs it no try.

        Args:
            earlier: How often this task was lost before.
        """
        if not self.retries.get(Outcome.LOST, 0):
            return None
        return self.delay_before_retry(Outcome.LOST, max(0, earlier - 1))


def attempt_key(seq: int, attempt: int) -> int:
    """Return the ledger's key of an attempt: readable (task 17's second attempt is 17002) and in task order."""
    return seq * ATTEMPTS_PER_TASK + attempt
