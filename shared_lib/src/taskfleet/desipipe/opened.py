"""What this process knows of a queue: its ledger, its functions and the numbers of its tasks. All objects of a queue share it."""

import json
import os
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

from taskfleet.code_versions.objects import imported_modules, source_of
from taskfleet.desipipe import places, resources
from taskfleet.desipipe.apps import BaseApp
from taskfleet.desipipe.functions import MPICOMM, StoredFunction
from taskfleet.desipipe.records import index_of
from taskfleet.desipipe.values import Encoder, pickled
from taskfleet.ledger import call_records, calls
from taskfleet.ledger.database import Database, create, open_ledger
from taskfleet.references import Store
from taskfleet.worker import stored_functions

#: How much of the data of a call has its number.
INDEX_LENGTH = 40

#: By the file of the queue.
_opened: dict[str, "Opened"] = {}


def opened(filename: str) -> "Opened":
    """Return what this process knows of a queue."""
    if filename not in _opened:
        _opened[filename] = Opened(filename)
    return _opened[filename]


class Opened:
    """A queue as this process has it.

    Args:
        filename: The file of the queue.
    """

    def __init__(self, filename: str) -> None:
        self._path = Path(filename)
        self.configuration = places.configuration(self._path)
        self.store = Store(self.configuration.results_path)
        self._database: Database | None = None
        self._pid = 0
        self._forget()

    def _forget(self) -> None:
        self._function_ids: dict[tuple[str, ...], int] = {}
        self._seqs: dict[str, int] = {}
        self._options: dict[int, dict[str, Any]] = {}
        self._kept: dict[str, dict[int, str]] = {}

    @property
    def database(self) -> Database:
        """The ledger."""
        if self._database is None or self._pid != os.getpid():
            self._database = open_ledger(self._path, job_id=self.configuration.settings.job_id)
            self._pid = os.getpid()
        return self._database

    def make(self) -> None:
        """Make the file."""
        configuration = self.configuration
        create(self._path, job_id=configuration.settings.job_id, project=configuration.project, now=time.time()).close()

    def delete(self) -> None:
        """Delete the queue with its tasks and their results."""
        if self._database is not None:
            self._database.close()
            self._database = None
        self._forget()
        places.delete(self.configuration)

    # --- calls ---

    def insert(self, app: BaseApp, arguments: dict[str, Any], index: int) -> str:
        """Add the task of a call, unless the queue has it; return its id."""
        encoded = Encoder(self.store, str(self._path)).encode(arguments)
        identity = f"{app.name}\n{app.digest}\n{app.is_bash}\n{encoded.identity}"
        task_id = f"{app.name.strip('<>')}-{blake2b(identity.encode(), digest_size=10).hexdigest()}"
        function_id = self._function_id(app)
        data = f'{{"index":{index},"arguments":{encoded.text}}}'
        call = calls.Call(task_id, data, function_id, encoded.parents)
        inserted = calls.insert_calls(self.database, [call])
        self._seqs[task_id] = inserted.seqs[0]
        self._kept.get(app.name, {}).setdefault(index, task_id)
        if not inserted.added:
            call_records.hand_over(self.database, inserted.seqs[0], function_id)
        return task_id

    def kept(self, name: str, index: int) -> str | None:
        """Return the id of the task of the i-th call of the app with a name, whatever its code; None if there is none."""
        if name not in self._kept:
            ids = [number for number, options in self.functions().items() if options["app"] == name]
            found: dict[int, str] = {}
            for task_id, data in call_records.beginnings(self.database, ids, INDEX_LENGTH):
                found.setdefault(index_of(data), task_id)
            self._kept[name] = found
        return self._kept[name].get(index)

    def seq_of(self, task_id: str) -> int:
        """Return the number of a task in the ledger.

        Raises:
            KeyError: There is no such task.
        """
        if task_id not in self._seqs:
            found = next(iter(call_records.calls(self.database, task_ids=[task_id])), None)
            if found is None:
                raise KeyError(f"task {task_id} not found")
            self._seqs[task_id] = found.seq
        return self._seqs[task_id]

    # --- functions ---

    def functions(self) -> dict[int, dict[str, Any]]:
        """Return the options of all functions by their numbers: the app, the manager and so on."""
        for one in call_records.functions(self.database):
            if one.function_id not in self._options:
                options = json.loads(one.options)
                self._options[one.function_id] = {"app": "", "manager": "", "settings": {}, **options}
        return self._options

    def options_of(self, function_id: int) -> dict[str, Any]:
        """Return the options of a function."""
        if function_id not in self._options:
            self.functions()
        return self._options[function_id]

    def _function_id(self, app: BaseApp) -> int:
        manager = app.task_manager
        key = (app.name, app.digest, manager.id, str(app.is_bash))
        if key not in self._function_ids:
            mine = {
                "app": app.name,
                "version": app.digest,
                "is_bash": app.is_bash,
                "manager": manager.id,
                "python": stored_functions.PYTHON,
            }
            processes = resources.processes(manager.provider)
            if processes > 1 or (MPICOMM in app.signature.parameters and not app.is_bash):
                mine["mpi"] = processes
            known = [number for number, options in self.functions().items() if {**options, **mine} == options]
            self._function_ids[key] = known[0] if known else self._register(app, mine)
        return self._function_ids[key]

    def _register(self, app: BaseApp, options: dict[str, Any]) -> int:
        data, _ = pickled(StoredFunction(app.function, is_bash=app.is_bash, folders=app.folders))
        more = {
            "settings": app.task_manager.settings,
            "source": source_of(app.function),
            "versions": places.versions(imported_modules(app.function)),
        }
        name = stored_functions.save(data, self.store, manager=options["manager"], name=app.name)
        return calls.register_stored(self.database, name, json.dumps({**options, **more}), manager=options["manager"])
