"""What pools without a controller need: a batch system, tasks that no process has to send, and machines that follow each other."""

import math

from taskfleet.api.planning import Plan
from taskfleet.errors import CommandError, UsageError
from taskfleet.invocation import poe
from taskfleet.ledger.database import Database
from taskfleet.machines import BatchJobs
from taskfleet.machines.provider import provider_of
from taskfleet.queues.addresses import is_remote
from taskfleet.settings import Configuration

#: How many machines follow each other in a pool without a controller if it is unknown how long the tasks take.
UNKNOWN_ROUNDS = 10


def batch_jobs(configuration: Configuration) -> BatchJobs:
    """Return what only batch systems can do.

    Raises:
        UsageError: The provider is not one.
    """
    provider = provider_of(configuration)
    found = provider.batch_jobs(configuration)
    if found is None:
        raise UsageError(
            f"PROVIDER={provider.name} is not a batch system, so a process has to run beside the pool: --leave and --as-job are for "
            "PROVIDER=slurm."
        )
    return found


def most_machines(plan: Plan, lifetime_hours: float) -> int:
    """Return how many machines to queue for a pool without a controller: twice what its tasks are expected to need.

    Machines that are not needed never start, and cost nothing.
    """
    rounds = UNKNOWN_ROUNDS if plan.estimate.hours is None else 1 + math.ceil(2 * plan.estimate.hours / lifetime_hours)
    return plan.choice.count * rounds


def check_leaving(database: Database, configuration: Configuration) -> None:
    """Check that the job needs no process but its workers.

    Raises:
        CommandError: It does.
    """
    if is_remote(configuration.settings.queue_url) and database.value("SELECT EXISTS (SELECT 1 FROM function)"):
        raise CommandError(
            "The tasks of a graph are sent to a service queue when those that they wait for have ended, so a process has to run "
            f"beside the pool. Run {poe('deploy_pool')} without --leave, or use QUEUE_URL=ledger."
        )
