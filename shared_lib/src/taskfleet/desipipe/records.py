"""A task of a queue with everything that is known of it."""

import re
from functools import cached_property
from typing import Any, Protocol

from taskfleet.desipipe.futures import Future, Source
from taskfleet.desipipe.values import restored
from taskfleet.ledger import outcomes
from taskfleet.ledger.call_records import CallRecord
from taskfleet.ledger.database import Database
from taskfleet.references import Store, decode
from taskfleet.tasks import State, streams

_REFERENCE = re.compile(r'(?<!\{"\$dict":)\{"\$task":"([^"\\]+)"\}')
#: The errno of a task that failed without an exit code.
ERRNO = 42


class TaskState:
    """The states of tasks. No task is UNKNOWN: when a worker dies, its tasks are run again."""

    WAITING, PENDING, RUNNING = "WAITING", "PENDING", "RUNNING"
    SUCCEEDED, FAILED, KILLED, UNKNOWN = "SUCCEEDED", "FAILED", "KILLED", "UNKNOWN"
    ALL = (WAITING, PENDING, RUNNING, SUCCEEDED, FAILED, KILLED, UNKNOWN)


class TasksQueue(Source, Protocol):
    """What a task needs of its queue; see ``queue.Queue``."""

    @property
    def store(self) -> Store:
        """Where its large values are."""

    @property
    def database(self) -> Database:
        """Its ledger."""

    def managers(self, mid: str | None = None) -> Any:
        """Return the manager with an id."""


class App:
    """The function of a task."""

    def __init__(self, queue: TasksQueue, options: dict[str, Any]) -> None:
        self._queue = queue
        self.name: str = options.get("app", "")
        self.code: str = options.get("source", "")
        self.versions: dict[str, str] = options.get("versions", {})
        self.manager_id: str = options.get("manager", "")

    @property
    def task_manager(self) -> Any:
        """The manager that runs it."""
        return self._queue.managers(mid=self.manager_id)


class Task:
    """A task of a queue, as it was when it was read.

    Args:
        queue: The queue.
        record: What the ledger has.
        options: Those of its function.
    """

    def __init__(self, queue: TasksQueue, record: CallRecord, options: dict[str, Any]) -> None:
        self._queue = queue
        self._record = record
        self.id = record.task_id
        self.state = State(record.state).name
        self.app = App(queue, options)
        self.index = index_of(record.data)
        self.jobid = "" if record.pid is None else str(record.pid)
        self.t0 = -1.0 if record.started_at is None else record.started_at
        self.dtime = record.elapsed_seconds
        self.versions = self.app.versions

    @property
    def errno(self) -> int | None:
        """0 after a success, otherwise the exit code of the process or the command, or 42; None before the end."""
        if self.state == State.SUCCEEDED.name:
            return 0
        if self.state not in (State.FAILED.name, State.KILLED.name):
            return None
        return self._record.exit_code or ERRNO

    @property
    def out(self) -> str:
        """The end of what it wrote to standard output."""
        return streams(self._record.output)[0]

    @property
    def err(self) -> str:
        """The end of what it wrote to standard error, and the traceback or reason if it did not succeed."""
        return streams(self._record.output)[1] + self.reason

    @cached_property
    def reason(self) -> str:
        """Why it did not succeed; an empty text if it did or has not ended."""
        if not self.errno:
            return ""
        error = self._record.error
        if error is None or self.state == State.KILLED.name:
            task_id, root_id, error = outcomes.failure(self._queue.database, self._record.seq)
            return f"{error}\n" if task_id == root_id else f"{root_id} did not succeed: {error}\n"
        first, _, trace = error.partition("\n")
        return f"{trace or first}\n" if not trace.endswith("\n") else trace

    @cached_property
    def result(self) -> Any:
        """What it returned; None if it did not succeed."""
        if self.state != State.SUCCEEDED.name:
            return None
        [text] = outcomes.results(self._queue.database, [self._record.seq])
        return decode(text, self._queue.store, pickle=True)

    @property
    def require_ids(self) -> list[str]:
        """The ids of the tasks whose results it takes."""
        return list(dict.fromkeys(_REFERENCE.findall(self._record.data)))

    @cached_property
    def kwargs(self) -> dict[str, Any]:
        """Its arguments, with futures in place of results."""

        def future(value: dict[str, Any]) -> Any:
            return Future(self._queue, value["$task"]) if value.keys() == {"$task"} else value

        text = _REFERENCE.sub(r'{"$dict":{"$task":"\1"}}', self._record.data)
        found: dict[str, Any] = restored(decode(text, self._queue.store, pickle=True)["arguments"], future)
        return found

    def __repr__(self) -> str:
        """Return its id and state."""
        return f"Task(id={self.id}, state={self.state})"


def index_of(data: str) -> int:
    """Return the number of the call, with which its data begin."""
    found = re.match(r'\{"index":(\d+),', data)
    return int(found[1]) if found else -1
