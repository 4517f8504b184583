"""Checks of apps for MPI before their first call is sent."""

from importlib.util import find_spec
from typing import Any

from taskfleet.errors import UsageError
from taskfleet.graph.apps import App
from taskfleet.settings import Configuration


def check_mpi(app: App[Any, Any], configuration: Configuration) -> None:
    """Check that workers can run the tasks of an app as far as it is known here.

    Raises:
        UsageError: It takes more slots than its workers have, or mpi4py is missing.
        SettingsError: Its manager has no file of settings, or one with errors.
    """
    if not app.mpi:
        return
    settings = configuration.of_manager(app.manager).settings
    if settings.slots is not None and app.mpi > settings.slots:
        file = f"config/task.{app.manager}.env" if app.manager else "config/task.env"
        raise UsageError(
            f"{app.name}: mpi={app.mpi} takes {app.mpi} slots, one for each process, and workers have SLOTS={settings.slots}. Set "
            f"SLOTS={app.mpi} or more in {file}, or a smaller mpi."
        )
    if not app.is_bash and find_spec("mpi4py") is None:
        raise UsageError(
            f"{app.name}: mpi={app.mpi} needs mpi4py, which is not installed. Add it to the project: uv add mpi4py"
        )
