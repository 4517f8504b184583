"""The results of calls, which may not be there yet."""

from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, Protocol, overload

from taskfleet.errors import TaskfleetError
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import as_runs
from taskfleet.tasks import State, streams


class Source(Protocol):
    """What a future needs of its flow; see ``flow.Flow``."""

    def send(self) -> None:
        """Send the calls that are not sent yet."""

    def states(self, seqs: Sequence[int]) -> list[State]:
        """Return the states of tasks."""

    def results(self, seqs: Sequence[int], timeout: float | None) -> list[Any]:
        """Return the results of tasks, and wait for them."""

    def output(self, seq: int) -> str:
        """Return the end of what a task printed; see ``tasks.streams``."""

    def ids(self, seqs: Sequence[int]) -> list[str]:
        """Return the ids of tasks."""

    def enter_map(self, map_id: str, runs: Sequence[tuple[int, int]]) -> None:
        """Enter a map, to which the arguments of a call refer."""


class TaskError(TaskfleetError):
    """A task whose result was asked for failed, or was killed; the message has the error of the task that is the cause."""


class Future:
    """The result of a call. ``flow`` makes it; it has only the task's id and number, so there may be many."""

    __slots__ = ("_flow", "_seq", "id")

    def __init__(self, flow: Source, task_id: str, seq: int) -> None:
        self._flow = flow
        self._seq = seq
        """Its number in the ledger; negative while the call is not sent."""
        self.id = task_id
        """The task's id, as in ``poe task ID``."""

    @property
    def state(self) -> str:
        """The state of the task: waiting, pending, running, succeeded, failed or killed."""
        return self._flow.states([self.seq])[0].word

    def done(self) -> bool:
        """Return whether the task has ended, successful or not."""
        return self._flow.states([self.seq])[0] in (State.SUCCEEDED, State.FAILED, State.KILLED)

    def result(self, timeout: float | None = None) -> Any:
        """Return the result; run tasks here until it is there, unless other workers do.

        Args:
            timeout: The maximum time to wait in seconds; None for any time.

        Raises:
            TaskError: The task failed or was killed.
            TimeoutError: It has not ended in time.
        """
        return self._flow.results([self.seq], timeout)[0]

    def exception(self, timeout: float | None = None) -> TaskError | None:
        """Return the error of the task once it has ended, None if it succeeded; otherwise as ``result``."""
        try:
            self.result(timeout)
        except TaskError as error:
            return error
        return None

    def output(self) -> str:
        """Return ``stdout`` and then ``stderr``."""
        return f"{self.stdout}{self.stderr}"

    @property
    def stdout(self) -> str:
        """The end of what the task wrote to standard output in its latest attempt that ended; its length is limited by OUTPUT_TAIL_KIB."""
        return streams(self._flow.output(self.seq))[0]

    @property
    def stderr(self) -> str:
        """The same of standard error."""
        return streams(self._flow.output(self.seq))[1]

    @property
    def seq(self) -> int:
        """The task's number in the ledger; a call that is not sent yet is sent now."""
        if self._seq < 0:
            self._flow.send()
        return self._seq

    @property
    def flow(self) -> Source:
        """The flow that it belongs to."""
        return self._flow

    def parents(self) -> Parents:
        """Return the task as one that a call waits for."""
        return Parents(self._seq, self._seq)

    def sent(self, seq: int) -> None:
        """Note the number of the task in the ledger."""
        self._seq = seq

    def __repr__(self) -> str:
        """Return the task's id."""
        return f"<Future {self.id}>"


class Futures(Sequence[Future]):
    """The results of the calls of a map, in their order; each item is a ``Future``. It takes 8 bytes per task."""

    def __init__(self, flow: Source, seqs: "array[int]") -> None:
        self._flow = flow
        self._seqs = seqs
        self._map_id = ""

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self._seqs)

    @overload
    def __getitem__(self, index: int) -> Future: ...

    @overload
    def __getitem__(self, index: slice) -> "Futures": ...

    def __getitem__(self, index: int | slice) -> "Future | Futures":
        """Return the future of one call, or those of some."""
        if isinstance(index, slice):
            return Futures(self._flow, self._seqs[index])
        seq = self._seqs[index]
        return Future(self._flow, self._flow.ids([seq])[0], seq)

    def __iter__(self) -> Iterator[Future]:
        """Yield the future of each call."""
        for start in range(0, len(self._seqs), 1000):
            seqs = self._seqs[start : start + 1000]
            for task_id, seq in zip(self._flow.ids(seqs), seqs, strict=True):
                yield Future(self._flow, task_id, seq)

    @property
    def flow(self) -> Source:
        """The flow that it belongs to."""
        return self._flow

    @property
    def seqs(self) -> "array[int]":
        """The numbers of the tasks in the ledger."""
        return self._seqs

    def ids(self) -> list[str]:
        """Return the ids of the tasks."""
        return self._flow.ids(self._seqs)

    def result(self, timeout: float | None = None) -> list[Any]:
        """Return all results; otherwise as ``Future.result``."""
        return self._flow.results(self._seqs, timeout)

    def counts(self) -> dict[str, int]:
        """Return the number of tasks in each state that any has."""
        found: dict[str, int] = {}
        for state in self._flow.states(self._seqs):
            found[state.word] = found.get(state.word, 0) + 1
        return found

    def runs(self) -> list[tuple[int, int]]:
        """Return the tasks as runs of consecutive numbers."""
        return as_runs(self._seqs)

    def map_id(self) -> str:
        """Return the name under which the ledger has this map; it is entered there."""
        if not self._map_id:
            runs = self.runs()
            self._map_id = blake2b(repr(runs).encode(), digest_size=10).hexdigest()
            self._flow.enter_map(self._map_id, runs)
        return self._map_id

    def __repr__(self) -> str:
        """Return the number of calls."""
        return f"<{len(self):,} Futures>"
