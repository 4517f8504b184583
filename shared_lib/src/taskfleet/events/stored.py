"""Events of the attempts in a ledger, for an event file that was lost or never written."""

from collections.abc import Iterator

from taskfleet.errors import LedgerError
from taskfleet.events import task_event
from taskfleet.invocation import poe
from taskfleet.ledger.database import Database
from taskfleet.tasks import ATTEMPTS_PER_TASK, JSON, Finished, Lease, Outcome, State


def stored_events(database: Database) -> Iterator[dict[str, JSON]]:
    """Yield one event for each recorded attempt, in the order in which the attempts ended."""
    rows = database.stream(
        "SELECT key, outcome, attempt.started_at, elapsed_seconds, result, error, output, exit_code, peak_memory_mib, id, hostname, "
        "state.state, state.attempt FROM attempt JOIN task ON task.seq = key / ? JOIN state USING (seq) LEFT JOIN worker "
        "ON worker.worker_id = attempt.worker_id WHERE outcome <> ? ORDER BY attempt.started_at + elapsed_seconds",
        (ATTEMPTS_PER_TASK, int(Outcome.INTERRUPTED)),
    )
    for key, outcome, began, elapsed, result, error, output, exit_code, peak, task_id, host, state, last in rows:
        seq, attempt = divmod(key, ATTEMPTS_PER_TASK)
        finished = Finished(
            seq=seq,
            attempt=attempt,
            outcome=outcome,
            started_at=began,
            elapsed_seconds=elapsed,
            result=result,
            error=error,
            output=output,
            exit_code=exit_code,
            peak_memory_mib=peak,
        )
        retry = outcome != Outcome.SUCCEEDED and not (state == State.FAILED and attempt == last)
        lease = Lease(seq=seq, attempt=attempt, task_id=task_id, data="")
        try:
            event = task_event(lease, finished, retry=retry, host=host or "?")
        except (ValueError, OverflowError, OSError) as error:
            raise LedgerError(
                f"The ledger {database.path} has an impossible time of task {task_id!r} ({error}): it is damaged. "
                f"{poe('check_ledger')} lists what is wrong."
            ) from error
        yield event
