"""Managers: how the tasks of some apps are run."""

import json
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from taskfleet.desipipe.apps import BashApp, PythonApp
from taskfleet.desipipe.environment import Environment, get_environ
from taskfleet.desipipe.queue import Queue
from taskfleet.desipipe.resources import get_provider, get_scheduler
from taskfleet.desipipe.steering import get_queue
from taskfleet.errors import UsageError


class TaskManager:
    """Runs the tasks of its apps in an environment, with some workers. A queue can have several.

    Args:
        queue: The queue, or its name.
        environ: See ``Environment``.
        scheduler: ``dict(max_workers=4)``; 1 worker if None.
        provider: ``dict(provider='local')``, also the default for None; ``stop_after=N`` replaces a process after N tasks.

    Raises:
        UsageError: One is unknown or has unknown options.
    """

    def __init__(self, queue: Queue | str, environ: Any = None, scheduler: Any = None, provider: Any = None) -> None:
        self.queue: Queue = get_queue(queue)
        self.environ = get_environ(environ)
        self.scheduler = get_scheduler(scheduler)
        self.provider = get_provider(provider)

    @property
    def id(self) -> str:
        """Its id, which depends on its settings only."""
        return blake2b(json.dumps(self.settings, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings, as JSON has them."""
        return {"environ": self.environ.described(), "scheduler": self.scheduler, "provider": self.provider}

    def clone(self, **changes: Any) -> "TaskManager":
        """Return a manager with other arguments in place of these."""
        given = {
            "queue": self.queue,
            "environ": self.environ,
            "scheduler": self.scheduler,
            "provider": self.provider,
        }
        unknown = changes.keys() - given.keys()
        if unknown:
            raise UsageError(f"A manager has no {', '.join(sorted(unknown))}; it has {', '.join(given)}.")
        return TaskManager(**{**given, **changes})

    def python_app(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make calls of a function tasks; a decorator, bare or with options (see ``apps.BaseApp``)."""
        return (lambda one: PythonApp(one, self, **options)) if function is None else PythonApp(function, self)

    def bash_app(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make calls of a function tasks that run the command that it returns; see ``python_app``."""
        return (lambda one: BashApp(one, self, **options)) if function is None else BashApp(function, self)

    def __repr__(self) -> str:
        """Return its id and its number of workers."""
        return f"TaskManager(id={self.id}, max_workers={self.scheduler['max_workers']})"


def _recorded(queue: Queue, settings: dict[str, Any]) -> TaskManager:
    """Return a manager of which a queue has the settings."""
    environ = Environment(None, **settings["environ"])
    return TaskManager(queue, environ, settings["scheduler"], settings["provider"])


Queue.manager_of = staticmethod(_recorded)
