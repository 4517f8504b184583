"""The versions of Python and of packages that workers have."""

import json
from collections.abc import Mapping

from taskfleet.ledger.database import Database


def set_environment(database: Database, worker_id: int, packages: Mapping[str, str]) -> None:
    """Enter the versions that a worker has, by the names of packages; in an open transaction."""
    text = json.dumps(packages, sort_keys=True, separators=(",", ":"))
    database.execute("INSERT INTO environment (packages) VALUES (?) ON CONFLICT DO NOTHING", (text,))
    database.execute(
        "UPDATE worker SET environment_id = (SELECT environment_id FROM environment WHERE packages = ?) WHERE worker_id = ?",
        (text, worker_id),
    )


def packages_of(database: Database, worker_id: int) -> dict[str, str] | None:
    """Return the versions that a worker has; None if it did not say."""
    text = database.value(
        "SELECT packages FROM environment JOIN worker USING (environment_id) WHERE worker_id = ?", (worker_id,)
    )
    packages: dict[str, str] | None = None if text is None else json.loads(text)
    return packages
