"""The functions of a flow: their numbers in the ledger, and a look at their code before their first call."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from taskfleet.errors import TaskfleetError, UsageError
from taskfleet.graph import by_value
from taskfleet.graph.apps import App, known_apps
from taskfleet.graph.changed_code import check_code
from taskfleet.graph.mpi import check_mpi
from taskfleet.ledger import calls
from taskfleet.ledger.database import Database
from taskfleet.references import Store
from taskfleet.settings import Configuration


class FunctionIds:
    """The numbers of functions in the ledger of a job.

    Args:
        configuration: The settings of the job.
        database: Returns its ledger, for the thread that calls.
        store: Where functions by value are stored.
    """

    def __init__(self, configuration: Configuration, database: Callable[[], Database], store: Store) -> None:
        self._configuration = configuration
        self._database = database
        self._store = store
        self._known: dict[App[Any, Any] | str | tuple[Any, ...], int] = {}
        """By the app, or by all that it says of its function by value; and by the name of a function that workers import."""
        self._mpi: dict[str, int | None] = {}
        """The number of MPI processes, by the name of a function that workers import."""
        self._has_checked_code = False
        self.may_pickle = False
        """Whether any of the functions may have pickled arguments or results."""
        for one in known_apps():
            one.forget_values()

    def of(self, app: App[Any, Any]) -> int:
        """Return the number of the function of an app.

        Raises:
            UsageError: Workers can neither import it nor have it by value.
            SettingsError: Its manager has no file of settings, or one with errors.
        """
        found = self._known.get(_key(app))
        return self._enter(app) if found is None else found

    def _enter(self, app: App[Any, Any]) -> int:
        name = app.name
        if app.manager:
            self._configuration.of_manager(app.manager)  # raises an error if it cannot run
        check_mpi(app, self._configuration)
        database = self._database()
        self.may_pickle = self.may_pickle or app.may_pickle
        if not self._has_checked_code:  # also of functions that are only called inside tasks
            self._has_checked_code = True
            for other in known_apps():
                with suppress(TaskfleetError):  # an app that is used reports its errors itself
                    if other.name and not other.is_by_value:
                        self.of(other)
        if app.is_by_value:
            function_id = by_value.register(database, self._store, app)
        elif app.full_name in self._known:  # of another app
            function_id = self._known[app.full_name]
            if app.mpi != self._mpi[app.full_name]:
                raise UsageError(
                    f"{name} has mpi={self._mpi[app.full_name]} in one app and mpi={app.mpi} in another. A function has one number of "
                    "processes; write a second function that calls it."
                )
        else:
            function_id = calls.register_function(database, app.full_name, app.version, app.manager, app.mpi)
            check_code(
                database,
                function_id,
                app.function,
                module=name.partition(":")[0],
                version=app.version,
                project=self._configuration.project,
                policy=self._configuration.settings.on_change,
            )
            self._known[app.full_name], self._mpi[app.full_name] = function_id, app.mpi
        self._known[_key(app)] = function_id
        return function_id


def _key(app: App[Any, Any]) -> App[Any, Any] | tuple[Any, ...]:
    return (app.name, app.is_bash, app.may_pickle, app.manager, app.mpi) if app.is_by_value else app
