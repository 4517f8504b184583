"""Names the jobs of a project that have tasks, for a command about another job, which has none."""

import dataclasses
from contextlib import closing
from pathlib import Path

from taskfleet.errors import LedgerError
from taskfleet.ledger.connection import connect_to_read
from taskfleet.ledger.database import project_name
from taskfleet.settings import Configuration
from taskfleet.text import counted

#: How many jobs are named.
MOST = 5


def other_jobs(configuration: Configuration) -> str:
    """Return a sentence that names the other jobs of the project with tasks, and how a command is told which; empty if there are none."""
    found = _names(configuration)
    if not found:
        return ""
    more = f" and {counted(len(found) - MOST, 'other')}" if len(found) > MOST else ""
    jobs = "the job" if len(found) == 1 else "the jobs"
    return f"This project has tasks in {jobs} {', '.join(found[:MOST])}{more}: add --job-id {found[0]} to the command."


def _names(configuration: Configuration) -> list[str]:
    """Return the names of the jobs, the one first whose ledger was written last."""
    pattern = _path(configuration, "*")
    paths = [path for path in pattern.parent.glob(pattern.name) if path != configuration.ledger_path]
    found = [(path, _job_with_tasks(path, configuration)) for path in paths]
    names = [(path.stat().st_mtime, name) for path, name in found if name and _path(configuration, name) == path]
    return [name for _, name in sorted(names, reverse=True)]


def _path(configuration: Configuration, job_id: str) -> Path:
    settings = dataclasses.replace(configuration.settings, job_id=job_id)
    return dataclasses.replace(configuration, settings=settings).ledger_path


def _job_with_tasks(path: Path, configuration: Configuration) -> str:
    """Return the job of a ledger; an empty text if it has no tasks, is one of another project, or no ledger."""
    try:
        with closing(connect_to_read(path)) as database:
            row = database.row(
                "SELECT job_id FROM job WHERE project = ? AND EXISTS (SELECT 1 FROM task)",
                (project_name(configuration.project),),
            )
    except (LedgerError, OSError):
        return ""
    return row[0] if row else ""
