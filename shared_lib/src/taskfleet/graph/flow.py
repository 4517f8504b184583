"""Sends the calls of a script to a job, and waits for their results."""

import atexit
import sys
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from taskfleet import script_import
from taskfleet.api.job import Job, Setting
from taskfleet.errors import LostFileError, UsageError
from taskfleet.graph import current, script_end, script_run
from taskfleet.graph.apps import App
from taskfleet.graph.arguments import Encoder
from taskfleet.graph.function_ids import FunctionIds
from taskfleet.graph.futures import Future, Futures, TaskError
from taskfleet.graph.identity import task_ids
from taskfleet.graph.local_worker import LocalWorkers
from taskfleet.graph.mapping import map_arguments
from taskfleet.graph.service import Service
from taskfleet.graph.waiting import wait
from taskfleet.ledger import calls, leasing, lost_files, outcomes
from taskfleet.ledger.call_dependencies import Parents
from taskfleet.ledger.calls import Call, CallBatch
from taskfleet.ledger.connection import closed_on_error
from taskfleet.ledger.database import Database, create
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import record_queue
from taskfleet.references import Store, decode
from taskfleet.settings import Configuration, command_for
from taskfleet.tasks import State
from taskfleet.text import counted

#: Calls are sent together, at the latest when there are as many, or when the next call is made so long after the first.
MOST_BUFFERED = 10_000
BUFFER_SECONDS = 0.2
#: Calls of a map in one transaction, three times as many if no worker has to wait: each transaction rewrites most of the index of ids.
MAP_STEP = 50_000


class Flow:
    """The calls of a script, which become tasks of a job; see ``flow``."""

    def __init__(self, job: Job) -> None:
        script_import.note_script(str(job.configuration.project))
        self._job = job
        self._configuration = job.configuration
        self._lock = threading.RLock()
        self._of_thread = threading.local()
        self._before: list[current.CurrentFlow | None] = []
        self._buffer: list[tuple[Future, Call]] = []
        self._buffered: dict[str, Future] = {}
        self._first_at = 0.0
        self._store = Store(job.configuration.results_path)
        self._encoder = Encoder(self, self._store)
        self._functions = FunctionIds(job.configuration, lambda: self.database, self._store)
        self._workers: LocalWorkers | None = None
        if not is_remote(self._configuration.settings.queue_url):
            self._workers = LocalWorkers(self._configuration)
        self.added = 0
        """The number of new tasks."""
        self.known = 0
        """The number of calls whose tasks the job had already."""
        atexit.register(self._at_exit)

    @property
    def project(self) -> Path:
        """The project's folder."""
        return self._configuration.project

    @property
    def configuration(self) -> Configuration:
        """The settings of the job."""
        return self._configuration

    @property
    def job_id(self) -> str:
        """The name of the job that has the tasks."""
        return self._job.job_id

    def __enter__(self) -> Self:
        """Make this the flow of the calls that follow."""
        self._before.append(current.enter(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send the calls that are not sent yet, unless there was an error."""
        current.leave(self, self._before.pop())
        if error is None:
            self.send()
            if self.known and not self.added:
                print(
                    f"Job {self.job_id} has all {counted(self.known, 'call')} of the flow; none is new.",
                    file=sys.stderr,
                )

    # --- calls ---

    def call(self, app: App[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Future:
        """Make a call of an app; see ``App``."""
        with self._lock:
            name = app.name
            data, parents = self._encoder.call(app, args, kwargs)
            task_id = task_ids(name, [data])[0]
            known = self._buffered.get(task_id)
            if known is not None:
                return known
            function_id = self._functions.of(app)
            now = time.monotonic()
            if self._buffer and now - self._first_at > BUFFER_SECONDS:
                if any(one.first < 0 for one in parents):  # numbers of this batch
                    self.send()
                    return self.call(app, args, kwargs)
                self.send()
            if not self._buffer:
                self._first_at = now
            future = Future(self, task_id, -1 - len(self._buffer))
            self._buffer.append((future, Call(task_id, data, function_id, parents)))
            self._buffered[task_id] = future
            if len(self._buffer) >= MOST_BUFFERED:
                self.send()
            return future

    def map(self, app: App[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Futures:
        """Make the calls of a map; see ``App.map``."""
        with self._lock:
            self.send()
            arguments = map_arguments(app.name, app.signature, args, kwargs)
            common: dict[Parents, None] = {}
            constants = {
                key: self._encoder.value(app, key, value, common) for key, value in arguments.constants.items()
            }
            over = next((key for key, items in arguments.columns.items() if isinstance(items, Futures)), None)
            seqs = array("q")
            step = MAP_STEP if leasing.attended(self.database, time.time()) else 3 * MAP_STEP
            for start in range(0, arguments.length, step):
                columns = {key: items[start : start + step] for key, items in arguments.columns.items()}
                seqs.extend(self._map_step(app, columns, constants, tuple(common), over))
            return Futures(self, seqs)

    def _map_step(
        self,
        app: App[Any, Any],
        columns: Mapping[str, Sequence[Any]],
        constants: Mapping[str, str],
        common: tuple[Parents, ...],
        over: str | None,
    ) -> list[int]:
        """Insert some calls of a map; return their numbers."""
        name = app.name
        texts, parents = self._encoder.columns(app, columns, constants, over)
        function_id = self._functions.of(app)
        ids = task_ids(name, texts)
        pairs: Sequence[int] = columns[over].seqs if over is not None else ()  # type: ignore[attr-defined]
        first: dict[str, int] = {}
        for index, task_id in enumerate(ids if len(set(ids)) < len(ids) else ()):
            first.setdefault(task_id, index)
        is_unique = not first
        chosen = first.values()
        batch = CallBatch(
            ids=ids if is_unique else list(first),
            data=texts if is_unique else [texts[i] for i in chosen],
            function_ids=[function_id] * (len(ids) if is_unique else len(first)),
            parents=parents if is_unique or not parents else [parents[i] for i in chosen],
            pairs=pairs if is_unique or not pairs else [pairs[i] for i in chosen],
            common=common,
        )
        inserted = calls.insert_batch(self.database, batch)
        self._count(len(ids), inserted.added)
        if self._service is not None:
            self._service.send()
        if is_unique:
            return inserted.seqs
        by_id = dict(zip(first, inserted.seqs, strict=True))
        return [by_id[task_id] for task_id in ids]

    def send(self) -> None:
        """Send the calls that are not sent yet."""
        with self._lock:
            if not self._buffer:
                return
            buffer, self._buffer, self._buffered = self._buffer, [], {}
            inserted = calls.insert_calls(self.database, [call for _, call in buffer])
            for (future, _), seq in zip(buffer, inserted.seqs, strict=True):
                future.sent(seq)
            self._count(len(buffer), inserted.added)
            if self._service is not None:
                self._service.send()

    def enter_map(self, map_id: str, runs: Sequence[tuple[int, int]]) -> None:
        """Enter a map, to which the arguments of a call refer."""
        calls.register_map(self.database, map_id, runs)

    def _count(self, n: int, added: int) -> None:
        self.added += added
        self.known += n - added

    def command(self, command: str) -> str:
        """Return a command about the job as the user would type it."""
        return command_for(self._configuration, command)

    def end(self) -> None:
        """Stop the workers that run the tasks here, if there are any, once they have finished those that run."""
        if self._workers is not None:
            self._workers.end()

    def _at_exit(self) -> None:
        self.end()
        if self._workers is not None and (self.added or self.known):
            script_end.say_left(self._configuration, self.command)

    # --- results ---

    def states(self, seqs: Sequence[int]) -> list[State]:
        """Return the states of tasks."""
        if self._service is not None:
            self._service.step(wait_seconds=0.0)
        return outcomes.states(self.database, seqs)

    def results(self, seqs: Sequence[int], timeout: float | None) -> list[Any]:
        """Return the results of tasks; see ``Future.result``."""
        self.send()
        wait(self.database, seqs, timeout, self._workers, self.command, self._service)
        return [self._decoded(text) for text in outcomes.results(self.database, seqs)]

    def output(self, seq: int) -> str:
        """Return the end of what a task printed in its latest attempt that ended; see ``tasks.streams``."""
        return outcomes.output(self.database, seq)

    def ids(self, seqs: Sequence[int]) -> list[str]:
        """Return the ids of tasks."""
        return outcomes.ids(self.database, seqs)

    def _decoded(self, text: str) -> Any:
        try:
            return decode(text, self._store, pickle=self._functions.may_pickle)
        except LostFileError as error:
            raise LostFileError(f"{error}. {lost_files.remedy(self.database, str(error), self.command)}") from None

    @property
    def database(self) -> Database:
        """The job's ledger, which is made at the first call; each thread has a connection of its own."""
        found: Database | None = getattr(self._of_thread, "database", None)
        if found is None:
            settings = self._configuration.settings
            found = create(
                self._configuration.ledger_path,
                job_id=settings.job_id,
                project=self._configuration.project,
                now=time.time(),
                shared=settings.shared_ledger,
            )
            with closed_on_error(found):
                record_queue(found, self._configuration)
            self._of_thread.database = found
        return found

    @property
    def _service(self) -> Service | None:
        """The service queue of the job, of this thread; None if the tasks are in the ledger."""
        if not is_remote(self._configuration.settings.queue_url):
            return None
        found: Service | None = getattr(self._of_thread, "service", None)
        if found is None:
            found = self._of_thread.service = Service(self._configuration, self.database)
        return found


def flow(
    job_id: str | None = None,
    *,
    project: str | PathLike[str] | None = None,
    env_file: str | PathLike[str] | None = None,
    **settings: Setting,
) -> Flow:
    """Return a flow, to be entered with a ``with`` statement. The calls of apps inside are sent to the job of this name.

    Running a script again adds the calls that are new; the others are the same tasks with the same results.

    Args:
        job_id: The name of the job; None for the setting JOB_ID.
        project: The project's folder; None for the nearest one, from the current folder upwards, that has ``config/task.env``.
        env_file: A file of settings to use instead of ``config/task.env``.
        **settings: Settings by their names in lower case, such as ``slots=4``.

    Raises:
        SettingsError: A setting is unknown or invalid.
    """
    if script_import.is_worker():
        return _Inert()
    script_end.show_errors()
    file = script_run.env_file if env_file is None else env_file
    opened: Flow = script_run.open_flow(Job.open(job_id, project=project, env_file=file, **settings), Flow)
    return opened


class _Inert(Flow):
    """A flow in a worker that imports the script: calls make no tasks, and waiting for a result ends the import."""

    def __init__(self) -> None:
        pass

    def __enter__(self) -> Self:
        """Do nothing."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> Any:
        """End the import of the script."""
        if name.startswith("__"):
            raise AttributeError(name)
        script_import.stop_import()


__all__ = ["Flow", "TaskError", "UsageError", "flow"]
