"""Pauses queues, and stops their workers."""

import os
import signal
import time
from contextlib import suppress

from taskfleet.errors import CommandError
from taskfleet.ledger.database import Database
from taskfleet.processes.identity import hostname, is_surely_dead

#: How long workers may take to end.
END_SECONDS = 60.0
_PAUSE_SECONDS = 0.05


def stop_workers(database: Database) -> None:
    """Stop the workers of a queue, which kill the tasks that they run.

    Raises:
        CommandError: One runs on another host, or does not end.
    """
    deadline = time.monotonic() + END_SECONDS
    signalled: dict[int, int] = {}
    while alive := _alive(database):
        for host, pid in alive:
            if host != hostname():
                raise CommandError(f"A worker of {database.path} runs on {host}. Stop it there first.")
            if signalled.get(pid, 0) < 2:  # the second signal kills the tasks
                signalled[pid] = signalled.get(pid, 0) + 1
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        if time.monotonic() > deadline:
            raise CommandError(
                f"The workers of {database.path} do not end: processes {', '.join(str(p) for _, p in alive)}."
            )
        time.sleep(_PAUSE_SECONDS)


def _alive(database: Database) -> list[tuple[str, int]]:
    now = time.time()
    rows = database.rows("SELECT hostname, pid, process, lease_until FROM worker WHERE ended_at IS NULL")
    return [(host, pid) for host, pid, process, until in rows if until > now and not is_surely_dead(process)]
