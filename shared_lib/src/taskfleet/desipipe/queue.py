"""Queues: the ledgers of jobs in a folder, by their names."""

import os
from collections.abc import Callable
from typing import Any, ClassVar

from taskfleet import script_import
from taskfleet.desipipe import places, stopping
from taskfleet.desipipe.apps import BaseApp
from taskfleet.desipipe.futures import Future
from taskfleet.desipipe.opened import opened
from taskfleet.desipipe.records import Task, TaskState
from taskfleet.errors import UsageError
from taskfleet.ledger import call_records, control, counters, frontier
from taskfleet.ledger.database import Database
from taskfleet.references import Store
from taskfleet.settings import Settings
from taskfleet.tasks import State

PROPERTIES = ("tid", "state", "mid", "jobid", "t0", "index", "name", "task_manager")


class Queue:
    """The tasks of some scripts.

    Args:
        name: Its name, with letters, digits and ``_/.-``; with a ``/`` it is in a folder below the base folder.
        base_dir: The base folder; by default $DESIPIPE_QUEUE_DIR, or ~/.desipipe/queues/$USER.
        create: True for a new queue, False for one that exists; None for either.

    Raises:
        UsageError: The name is invalid, or there is such a queue, or none, against ``create``.
    """

    manager_of: ClassVar[Callable[..., Any]]
    """Returns a manager of which the queue has the settings; set by ``managers``."""

    def __init__(
        self, name: "str | Queue", base_dir: str | os.PathLike[str] | None = None, create: bool | None = None
    ) -> None:
        if isinstance(name, Queue):
            self.filename: str = name.filename
        else:
            self.filename = str(places.queue_path(name, base_dir))
        self._opened = opened(self.filename)
        exists = os.path.exists(self.filename)
        if create and exists:
            raise UsageError(f"The queue {self.filename} exists already.")
        if create is False and not exists:
            raise UsageError(f"There is no queue {self.filename}.")
        if not exists and not script_import.is_worker():
            self._opened.make()

    @property
    def dirname(self) -> str:
        """The folder of its file."""
        return os.path.dirname(self.filename)

    @property
    def database(self) -> Database:
        """Its ledger."""
        return self._opened.database

    @property
    def store(self) -> Store:
        """Where its large values are."""
        return self._opened.store

    @property
    def settings(self) -> Settings:
        """The settings of its job."""
        return self._opened.configuration.settings

    def call(self, app: BaseApp, arguments: dict[str, Any], index: int) -> Future:
        """Add the task of a call, unless the queue has it; return its future."""
        return Future(self, self._opened.insert(app, arguments, index))

    def kept(self, name: str, index: int) -> Future | None:
        """Return the task of the i-th call of the app with a name, whatever its code; None if there is none."""
        task_id = self._opened.kept(name, index)
        return None if task_id is None else Future(self, task_id)

    def seq_of(self, task_id: str) -> int:
        """Return the number of a task in the ledger."""
        return self._opened.seq_of(task_id)

    # --- looking ---

    def tasks(
        self,
        tid: Any = None,
        state: Any = None,
        mid: Any = None,
        jobid: Any = None,
        name: Any = None,
        index: Any = None,
        one: bool | None = None,
        property: Any = None,
    ) -> Any:
        """Return tasks, in the order in which they were made.

        Args:
            tid: Only those with this id; this and the others can also be lists.
            state: Only those in this state.
            mid: Only those of the manager with this id.
            jobid: Only those that the process with this id runs or ran.
            name: Only those of the app of this name.
            index: Only those of this call of their app, counted from 0.
            one: True for the first one, or None if there is none; False for a list; by default a list, unless ``tid``, or both ``name``
                and ``index``, say which.
            property: Return this property instead, or these: ``tid state mid jobid t0 index name task_manager``.
        """
        frontier.carry(self.database)
        names, mids, indexes, jobids = listed(name), listed(mid), listed(index), listed(jobid)
        ids = None
        if names or mids:
            ids = [
                number
                for number, options in self._opened.functions().items()
                if (not names or options["app"] in names) and (not mids or options["manager"] in mids)
            ]
        if one is None:
            one = (tid is not None and bool(listed(tid))) or (single(name) and single(index))
        found = []
        states = listed(state)
        if not states or set(states) != {TaskState.UNKNOWN}:
            wanted = [State[word] for word in states if word != TaskState.UNKNOWN]
            for record in call_records.calls(self.database, function_ids=ids, states=wanted, task_ids=listed(tid)):
                task = Task(self, record, self._opened.options_of(record.function_id))
                if (not indexes or task.index in indexes) and (not jobids or task.jobid in jobids):
                    found.append(task if property is None else self._properties(task, property))
                    if one:
                        break
        if one:
            return found[0] if found else None
        return found

    def _properties(self, task: Task, names: Any) -> Any:
        unknown = [name for name in listed(names) if name not in PROPERTIES]
        if unknown:
            raise UsageError(f"A task has no property {unknown[0]!r}; there are {', '.join(PROPERTIES)}.")
        values: list[Any] = []
        for name in listed(names):
            match name:
                case "tid":
                    values.append(task.id)
                case "mid":
                    values.append(task.app.manager_id)
                case "name":
                    values.append(task.app.name)
                case "task_manager":
                    values.append(task.app.task_manager)
                case _:
                    values.append(getattr(task, name))
        return values[0] if single(names) else tuple(values)

    def unfinished_managers(self) -> list[str]:
        """Return the ids of the managers with tasks that wait or are pending."""
        numbers = sorted(call_records.unfinished_functions(self.database))
        return list(dict.fromkeys(self._opened.options_of(one)["manager"] for one in numbers))

    def counts(self, state: Any = None, mid: Any = None) -> int:
        """Return the number of tasks, only those in a state, or of the manager with an id, if given."""
        summary = self.summary(mid)
        return sum(n for word, n in summary.items() if not listed(state) or word in listed(state))

    def summary(self, mid: Any = None, return_type: str = "dict") -> Any:
        """Return the number of tasks by state.

        Args:
            mid: Only those of the manager with this id.
            return_type: ``dict``, or ``str`` for a text.
        """
        frontier.carry(self.database)
        counts: dict[str, int] = dict.fromkeys(TaskState.ALL, 0)
        if listed(mid):
            for word in self.tasks(mid=mid, property="state", one=False):
                counts[word] += 1
        else:
            counts |= {state.name: n for state, n in counters.by_state(self.database).items()}
        if return_type == "dict":
            return counts
        if return_type != "str":
            raise UsageError(f"There is no return_type {return_type!r}; there are 'dict' and 'str'.")
        return "\n".join(f"{word:10s}: {n}" for word, n in counts.items())

    def managers(self, mid: str | None = None, property: str | None = None) -> Any:
        """Return the managers, or the one with an id; with ``property="mid"`` their ids."""
        settings = {one["manager"]: one["settings"] for one in self._opened.functions().values() if one["manager"]}
        if property is not None:
            return list(settings)
        if mid is None:
            return [self.manager_of(self, one) for one in settings.values()]
        return self.manager_of(self, settings[mid])

    def processes(self) -> list[tuple[str, str]]:
        """Return the workers that had tasks of this queue: (process id, provider)."""
        rows = self.database.rows("SELECT pid FROM worker ORDER BY worker_id")
        return [(str(pid), "local") for (pid,) in rows]

    def __getitem__(self, tid: str) -> Task:
        """Return the task with an id.

        Raises:
            KeyError: There is none.
        """
        task: Task | None = self.tasks(tid=tid)
        if task is None:
            raise KeyError(f"task {tid} not found")
        return task

    # --- steering ---

    @property
    def state(self) -> str:
        """ACTIVE or PAUSED."""
        return "PAUSED" if self.paused else "ACTIVE"

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return control.is_paused(self.database)

    def pause(self) -> None:
        """Let no more tasks begin; those that run end."""
        control.set_paused(self.database, True)

    def resume(self) -> None:
        """Let tasks begin again."""
        control.set_paused(self.database, False)

    def clear(self, kill: bool = True) -> None:
        """Delete all tasks and their results.

        Args:
            kill: Kill those that run.
        """
        self.delete(kill=kill)
        self._opened.make()

    def delete(self, kill: bool = True) -> None:
        """Delete the queue with its tasks and their results.

        Args:
            kill: Kill the tasks that run.
        """
        if kill and os.path.exists(self.filename):
            self.pause()  # so that a spawn elsewhere starts no others
            stopping.stop_workers(self.database)
        self._opened.delete()

    # --- as text ---

    def __getstate__(self) -> dict[str, Any]:
        """Return its file."""
        return {"filename": self.filename}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open its file."""
        Queue.__init__(self, state["filename"])

    def __repr__(self) -> str:
        """Return its size, state and file."""
        return f"Queue(size={self.counts()}, state={self.state}, filename={self.filename})"

    def __str__(self) -> str:
        """Return the same and the number of tasks by state."""
        return f"{self!r}\n{self.summary(return_type='str')}"


def listed(value: Any) -> list[Any]:
    """Return one value, several or none as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def single(value: Any) -> bool:
    """Return whether a value is given, and not a list."""
    return value is not None and not isinstance(value, list | tuple)
