"""Managers of functions and pools: the machines of a pool run the tasks of the default manager."""

from collections.abc import Callable

from taskfleet.errors import CommandError
from taskfleet.invocation import poe
from taskfleet.ledger import managers
from taskfleet.ledger.database import Database
from taskfleet.queues.addresses import is_remote
from taskfleet.settings import Configuration


def check_managers(configuration: Configuration, database: Database, say: Callable[[str], None]) -> None:
    """Say which managers need workers of their own, because machines work on the queue of the default one.

    Raises:
        CommandError: A manager has settings for a pool of its own.
    """
    if not is_remote(configuration.settings.queue_url):
        return
    for name in managers.names(database).values():
        command = poe(f"launch_worker --manager {name}")
        file = configuration.project / "config" / f"pool.{name}.env"
        if file.exists():
            raise CommandError(
                f"{file}: a manager cannot have a pool of its own. Remove the file, and run the tasks of manager {name} with {command}"
            )
        say(f"The machines do not run tasks of manager {name}, which need workers of their own: {command}")
