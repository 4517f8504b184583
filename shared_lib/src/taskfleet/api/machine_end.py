"""The end of machines of a pool without a controller: the last one that sees the job done cancels those that have not started.

``python -m taskfleet.api.machine_end`` runs on such a machine after its worker; its exit code is one of the constants below.
"""

import os
import sys
import time
from contextlib import closing

from taskfleet.api.queue import open_job
from taskfleet.errors import ProviderError, TaskfleetError
from taskfleet.ledger import control as job_control
from taskfleet.ledger.database import Database
from taskfleet.machines import EndReason, MachineState
from taskfleet.machines.provider import provider_of
from taskfleet.pool import control, records, updates
from taskfleet.pool.job_machines import open_all
from taskfleet.pool.job_state import LedgerJobState
from taskfleet.pool.records import End
from taskfleet.processes.identity import BEGAN_VARIABLE, identity, machine
from taskfleet.queues.addresses import is_remote
from taskfleet.queues.job import JobQueues
from taskfleet.settings import Configuration, read_configuration
from taskfleet.watch.bar import say
from taskfleet.watch.monitor import Monitor

#: The other machines are cancelled, or were before.
DONE = 0
#: Tasks are left, and this machine ran some; or it ran none.
RAN_TASKS, RAN_NONE = 10, 11
#: How long to wait for another process that records the events of workers: longer than a dead one keeps others out.
PATIENCE_SECONDS = control.ABSENT_SECONDS + 30.0
_POLL_SECONDS = 1.0


def end_machine(configuration: Configuration) -> int:
    """Cancel the machines that have not started if the job is done or paused; return the exit code.

    Raises:
        LedgerError: The ledger cannot be used.
        ProviderError: The queue does not answer.
    """
    with closing(open_job(configuration)) as database:
        if is_remote(configuration.settings.queue_url):
            _record_events(database, configuration)
        is_done = not LedgerJobState(database).tasks_left()
        code = RAN_TASKS if records.has_run_tasks(database, machine() or "") else RAN_NONE
        if is_done or job_control.is_paused(database):
            jobs = provider_of(configuration).batch_jobs(configuration)
            assert jobs is not None  # its machines end here
            code = DONE
            try:
                if jobs.cancel_rest():
                    _note_rest(database, configuration, EndReason.DONE if is_done else EndReason.CANCELLED)
            except ProviderError as error:  # the others find no task, and end soon
                say(f"The jobs that wait in the queue are not cancelled: {error}")
        if not control.running(database, time.time()):
            _note_end(database)
        return code


def _note_rest(database: Database, configuration: Configuration, reason: EndReason) -> None:
    """Record the end of the machines that have not started, which no controller notices."""
    now, listed = time.time(), open_all(configuration, database).list()
    never_ran = {one.instance_id for one in listed if one.state is MachineState.ENDED and one.running_since is None}
    ends = {one.token: End(reason) for one in records.open_machines(database) if one.instance_id in never_ran}
    updates.mark_ended(database, ends, now)


def _note_end(database: Database) -> None:
    """Record the end of this machine, and since when it has run."""
    for record in [one for one in records.open_machines(database) if one.instance_id == machine()]:
        began_at = float(os.environ.get(BEGAN_VARIABLE) or time.time())
        end = End(EndReason.ENDED, "its worker ended", running_at=record.running_at or began_at)
        updates.mark_ended(database, {record.token: end}, time.time())


def _record_events(database: Database, configuration: Configuration) -> None:
    """Record what workers have reported, alone: who finds no event takes silent workers for dead."""
    me, deadline = identity(), time.monotonic() + PATIENCE_SECONDS
    while control.acquire(database, me, time.time()) is not None:
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_SECONDS)
    try:
        with JobQueues(configuration, say=say) as queues, closing(Monitor(database, configuration, queues)) as monitor:
            while monitor.step():
                control.renew(database, me, time.time())
    finally:
        control.release(database, me)


if __name__ == "__main__":
    try:
        code = end_machine(read_configuration(env_file=None))
    except TaskfleetError as error:
        say(f"error: {error}")
        code = error.exit_code
    sys.exit(code)
