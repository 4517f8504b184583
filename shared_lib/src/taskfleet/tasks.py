"""The terms of a job: the states of a task, the outcomes of an attempt, leases and retries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from taskfleet.errors import UnusableLedgerError
from taskfleet.invocation import poe

#: Any JSON value.
JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

#: An attempt's key in the ledger is its task's sequence number times this, plus the attempt's number (see ``attempt_key``).
ATTEMPTS_PER_TASK = 1000
#: The highest number an attempt can have.
LAST_ATTEMPT = ATTEMPTS_PER_TASK - 1


def _unknown(what: str, value: object) -> UnusableLedgerError:
    return UnusableLedgerError(
        f"The ledger has {value!r} as the {what}, which taskfleet does not know: it is damaged, or another program changed it. "
        f"{poe('check_ledger')} lists what is wrong."
    )


class State(IntEnum):
    """The state of a task. The numbers are stored in the ledger and never change."""

    WAITING = 0
    """It depends on tasks that have not succeeded."""
    PENDING = 1
    """It is in the queue and can be leased, now or after its retry delay."""
    RUNNING = 2
    """A worker holds a lease on it."""
    SUCCEEDED = 3
    """An attempt returned, and its result is stored."""
    FAILED = 4
    """It gets no further attempt, unless a user asks for one (``poe retry``)."""
    KILLED = 5
    """A user cancelled it (``poe cancel``, ``poe purge_queue``), or a task on which it depends; or see ``KILLED_AT_TIME_LIMIT``."""

    @property
    def word(self) -> str:
        """The name of the state in commands and output: lower case."""
        return self.name.lower()

    @classmethod
    def _missing_(cls, value: object) -> "State":
        raise _unknown("state of a task", value)


class Outcome(IntEnum):
    """How an attempt ended. The numbers are stored in the ledger and never change."""

    SUCCEEDED = 0
    """The function returned a value that JSON can represent."""
    EXCEPTION = 1
    """The function raised, or returned a value that JSON cannot represent."""
    TIMEOUT = 2
    """The attempt ran longer than ``MAX_RUNTIME_SECONDS`` and was killed."""
    EXIT = 3
    """The process ended before the function returned: a crash, a signal, ``os._exit``."""
    MEMORY = 4
    """The process used more memory than ``MEMORY_LIMIT_GIB`` and was killed."""
    LOST = 5
    """The worker's lease expired: the worker or its machine died."""
    UPSTREAM = 6
    """A task on which this one depends failed."""
    RETRY = 7
    """The function asked for another attempt."""
    INTERRUPTED = 8
    """The worker was stopped; this does not count against the task's retries."""
    KILLED = 9
    """A user cancelled the task (``poe cancel``); or see ``KILLED_AT_TIME_LIMIT``."""

    @property
    def word(self) -> str:
        """The name of the outcome in commands and output: lower case."""
        return self.name.lower()

    @classmethod
    def _missing_(cls, value: object) -> "Outcome":
        raise _unknown("outcome of an attempt", value)


#: The outcomes that can be the kind of a failure, in the order of reports.
FAILURE_KINDS = (
    Outcome.EXCEPTION,
    Outcome.TIMEOUT,
    Outcome.EXIT,
    Outcome.MEMORY,
    Outcome.LOST,
    Outcome.UPSTREAM,
)


class WorkerEnd(StrEnum):
    """How a worker ended. The values are stored in ledgers and sent in events, and never change."""

    STOPPED = "stopped"
    """No tasks were left, or a user stopped it."""
    PREEMPTED = "preempted"
    """It received a termination notice for its machine."""
    FAILED = "failed"
    """It ended with an error of its own, not of a task."""
    LOST = "lost"
    """Its lease expired or its heartbeats stopped, so it counts as dead."""
    RELEASED = "released"
    """A user revoked its leases (``poe release``)."""

    @classmethod
    def read(cls, word: str) -> "WorkerEnd":
        """Return the end that a stored or sent value stands for; ``STOPPED`` for a value that only later versions know."""
        try:
            return cls(word)
        except ValueError:
            return cls.STOPPED


#: Identifies an attempt: (seq, attempt).
AttemptKey = tuple[int, int]


class Lease(NamedTuple):
    """The right of one worker to run one attempt of a task; a plain tuple, because there is one per task."""

    seq: int
    """The task's position in the job, from 1."""
    attempt: int
    """The attempt's number, from 1. Together with the worker it fences out reports that come too late."""
    task_id: str
    data: str
    """The function's keyword arguments, a JSON object."""
    function: str = ""
    """The function of a graph's task, as the table ``function`` names it; empty for TASK_FUNCTION."""

    @property
    def key(self) -> AttemptKey:
        """The attempt that it is for."""
        return self.seq, self.attempt


#: How the name by which workers load a function begins if several processes call it together: ``mpi=12:module:function``.
MPI_PREFIX = "mpi="


def processes_of(function: str) -> int:
    """Return how many MPI processes call a function, from the name by which workers load it; 0 if none do."""
    return int(function[len(MPI_PREFIX) :].partition(":")[0]) if function.startswith(MPI_PREFIX) else 0


def without_processes(function: str) -> str:
    """Return the name by which workers load a function without the number of its MPI processes."""
    return function.partition(":")[2] if function.startswith(MPI_PREFIX) else function


#: Stands between standard output and standard error where they are kept apart: the ASCII record separator.
SEPARATOR = "\x1e"


def streams(output: str | None) -> tuple[str, str]:
    """Return what an attempt wrote to standard output and to standard error; where they were not kept apart, all is in the first."""
    stdout, _, stderr = (output or "").partition(SEPARATOR)
    return stdout, stderr


class Finished(NamedTuple):
    """How an attempt ended; a plain tuple, because there is one per task."""

    seq: int
    attempt: int
    outcome: int
    started_at: float
    """Seconds since the epoch."""
    elapsed_seconds: float
    result: str | None = None
    """The returned value as JSON text, if it succeeded."""
    error: str | None = None
    """The reason of a failure: one line, then the traceback if there is one."""
    output: str | None = None
    """The end of the attempt's output, if it printed anything."""
    retry_delay_seconds: float | None = None
    """The delay that the function asked for with ``Retry``; ``NO_RETRY`` if it raised ``Fail``."""
    exit_code: int | None = None
    """The exit code of the attempt's process if it ended before the function returned; negative for a signal."""
    peak_memory_mib: float | None = None
    """The peak memory of its process, if it had a process of its own."""

    @property
    def key(self) -> AttemptKey:
        """The attempt that it was."""
        return self.seq, self.attempt


class LeaseLostError(Exception):
    """The worker's lease expired or was revoked; other workers may have its tasks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishReport:
    """How a batch of finished attempts was recorded. The tasks of attempts that are not listed here have ended.

    Keys are (seq, attempt): a batch may have an attempt that had lost its lease and a later one of the same task.
    """

    duplicates: set[AttemptKey] = field(default_factory=set)
    """Attempts that had lost their lease; they changed nothing."""
    retry_delay_seconds: dict[AttemptKey, float] = field(default_factory=dict)
    """The attempts that are followed by another one, and its delay."""


#: A task that was lost this many times with its worker is suspected to be the cause.
SUSPECT_LOSSES = 2

#: The error of an attempt that ended with its machine's time limit, and its task with it.
KILLED_AT_TIME_LIMIT = "Killed: the machine reached its time limit (ON_TIME_LIMIT=kill)"
#: The value of ``Finished.retry_delay_seconds`` that forbids another attempt.
NO_RETRY = -1.0
#: The longest delay of an attempt, three centuries.
LONGEST_DELAY_SECONDS = 1e10


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The number of retries after each kind of unsuccessful attempt, and their delays.

    The n-th retry of a kind is delayed by ``delay_seconds * 2**(n-1)``, at most ``max_delay_seconds``; after a lost worker, not at all.
    """

    retries: dict[Outcome, int]
    delay_seconds: float = 1.0
    max_delay_seconds: float = 300.0
    delays: Mapping[Outcome, tuple[float, float | None]] = field(default_factory=dict)
    """By kind, what replaces ``delay_seconds`` and, unless None, ``max_delay_seconds``."""

    def delay_after(self, finished: Finished, earlier: int, *, has_begun: bool = True) -> float | None:
        """Return the delay in seconds of the attempt that follows one that ended; None if none follows.

        This is the whole decision, for every kind of queue. A delay that the function asked for replaces the policy's, but lifts no cap.

        Args:
            finished: How the attempt ended.
            earlier: The number of attempts of this task that ended in the same way before this one, of those that count.
            has_begun: False if the attempt was lost with a worker that may not have begun it; see ``delay_before_loss``.
        """
        outcome = Outcome(finished.outcome)
        if outcome is Outcome.SUCCEEDED or finished.retry_delay_seconds == NO_RETRY:
            return None
        if finished.attempt >= LAST_ATTEMPT and outcome is not Outcome.INTERRUPTED:
            return None
        delay = self.delay_before_retry(outcome, earlier) if has_begun else self.delay_before_loss(earlier)
        if delay is not None and finished.retry_delay_seconds is not None:
            delay = finished.retry_delay_seconds
        return None if delay is None else min(delay, LONGEST_DELAY_SECONDS)

    def delay_before_retry(self, finished_outcome: Outcome, earlier: int) -> float | None:
        """Return the delay in seconds of the next attempt; None if the cap is reached.

        Args:
            finished_outcome: How the attempt ended.
            earlier: The number of attempts of this task that ended in the same way before this one.
        """
        if finished_outcome is Outcome.INTERRUPTED:
            return 0.0
        if earlier >= self.retries.get(finished_outcome, 0):
            return None
        usual = 0.0 if finished_outcome is Outcome.LOST else self.delay_seconds
        first, longest = self.delays.get(finished_outcome, (usual, None))
        return float(min(first * 2.0 ** min(earlier, 60), self.max_delay_seconds if longest is None else longest))

    def delay_before_loss(self, earlier: int) -> float | None:
        """Return the delay after the death of a worker that may not have begun the task: the first such loss does not count.

        Args:
            earlier: The number of earlier losses of this task.
        """
        if not self.retries.get(Outcome.LOST, 0):
            return None
        return self.delay_before_retry(Outcome.LOST, max(0, earlier - 1))


def attempt_key(seq: int, attempt: int) -> int:
    """Return the ledger's key of an attempt: readable (task 17's second attempt is 17002) and in task order."""
    return seq * ATTEMPTS_PER_TASK + attempt
