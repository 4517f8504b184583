"""What a script would insert, without inserting it: the script runs, and its calls go into a copy of the ledger."""

import dataclasses
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from taskfleet.api.job import Job
from taskfleet.graph.flow import Flow
from taskfleet.ledger.segments import next_seq
from taskfleet.references import Store
from taskfleet.tasks import State
from taskfleet.text import columns, counted


class DryFlow(Flow):
    """The calls of a script in a copy of the job's ledger. Where the script needs a result that is not there, it ends."""

    def __init__(self, job: Job) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="taskfleet-")
        configuration = job.configuration
        copy = Path(self._folder.name) / "job.db"
        _copy_ledger(configuration.ledger_path, copy)
        settings = dataclasses.replace(
            configuration.settings,
            ledger_path=str(copy),
            queue_url="ledger",
            results_path=f"{self._folder.name}/results",
            on_change="keep" if configuration.settings.on_change == "ask" else configuration.settings.on_change,
        )
        super().__init__(Job(dataclasses.replace(configuration, settings=settings)))
        self._store = Store(configuration.results_path)
        """Of the results that are there already; new arguments go beside the copy."""
        self._first_new = next_seq(self.database)
        self._calls: Counter[int] = Counter()
        """The number of calls by function."""
        self.missing: int | None = None
        """The number of tasks whose results the script needed when it ended, if it ended early."""

    def send(self) -> None:
        """Insert the calls that are not sent yet into the copy."""
        self._calls.update(call.function_id for _, call in self._buffer)
        super().send()

    def _map_step(self, app: Any, *arguments: Any) -> list[int]:
        seqs = super()._map_step(app, *arguments)
        self._calls[self._functions.of(app)] += len(set(seqs))
        return seqs

    def states(self, seqs: Sequence[int]) -> list[State]:
        """Return the states of tasks; end the script if some have not ended, since it may wait for that."""
        found = super().states(seqs)
        if n := sum(state in (State.WAITING, State.PENDING, State.RUNNING) for state in found):
            self._end_script(n)
        return found

    def results(self, seqs: Sequence[int], timeout: float | None) -> list[Any]:
        """Return the results of tasks that succeeded; end the script if there are others."""
        super().send()
        if n := sum(state is not State.SUCCEEDED for state in super().states(seqs)):
            self._end_script(n)
        return super().results(seqs, timeout)

    def _end_script(self, missing: int) -> NoReturn:
        self.missing = missing
        raise SystemExit(0)

    def report(self) -> str:
        """Return what would be inserted."""
        self.send()
        names: dict[int, str] = dict(self.database.rows("SELECT function_id, name FROM function"))
        new: dict[int, int] = dict(
            self.database.rows(
                "SELECT function_id, sum(last_seq - max(first_seq, ?) + 1) FROM function_run WHERE last_seq >= ? GROUP BY function_id",
                (self._first_new, self._first_new),
            )
        )
        rows = [
            (f"  {names[one]}", f"{new.get(one, 0):,}", f"{n - new.get(one, 0):,}")
            for one, n in sorted(self._calls.items())
        ]
        lines = [f"Job {self.job_id}: {counted(sum(new.values()), 'task')} would be inserted."]
        lines += [columns(rows, ("  function", "new", "known"))] if rows else []
        if self.missing is not None:
            lines.append(
                f"The script ended where it needs {counted(self.missing, 'result')} that {'is' if self.missing == 1 else 'are'} not there "
                "yet; the calls that follow are not counted."
            )
        return "\n".join(lines)


def _copy_ledger(source: Path, target: Path) -> None:
    """Copy a ledger, if there is one, as one whose tasks are in no service queue."""
    if not source.exists():
        return
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)
        columns_of_job = {name for _, name, *_ in copy.execute("PRAGMA table_info(job)")}
        if "queue_url" in columns_of_job:
            copy.execute("UPDATE job SET queue_url = NULL")
        copy.commit()
