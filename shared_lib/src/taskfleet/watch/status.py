"""The status of a job at one instant; reading it does not take longer with more tasks."""

from dataclasses import asdict, dataclass, field

from taskfleet.ledger import control, counters, function_graph, queries, sending
from taskfleet.ledger.counters import Durations
from taskfleet.ledger.database import Database
from taskfleet.ledger.function_graph import FunctionCounts
from taskfleet.pool import control as pool_control
from taskfleet.pool.costs import Costs, compute_costs
from taskfleet.settings import Configuration
from taskfleet.settings.manager_files import DEFAULT_MANAGER
from taskfleet.tasks import JSON, Outcome, State, WorkerEnd
from taskfleet.watch import pace
from taskfleet.watch.booting import Booting, find_booting
from taskfleet.watch.causes import Cause, failure_causes
from taskfleet.watch.limited import find_limited
from taskfleet.watch.unattended import find_unattended

#: The word for tasks that workers have leased and no slot executes yet.
PREFETCHED = "prefetched"
#: Tasks of a graph, and runs of consecutive ones with the same function, that are counted for a status: some tenths of a second.
MOST_TASKS_BY_FUNCTION = 3_000_000
MOST_RUNS_BY_FUNCTION = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A job at one instant. Times are seconds since the epoch."""

    job_id: str
    total: int
    counts: dict[State, int]
    failures: dict[Outcome, int]
    """FAILED tasks by kind."""
    causes: list[Cause]
    """Of the failures, as far as they were examined: by kind, the most frequent first."""
    rate_per_second: float | None
    """Tasks that ended per second, lately or, if all have ended, over the whole time; None if unknown."""
    eta_seconds: float | None
    """Time until all are done; None if unknown or if no worker is running."""
    durations: Durations | None
    workers: list[queries.WorkerRecord]
    began_at: float | None
    """When the first worker started."""
    ended_at: float | None
    """When the last task ended, to the second; None if some have not."""
    duplicates: int
    retries: int
    lost: int
    spot_terminations: int
    """Workers that ended because of a termination notice."""
    queue_url: str | None = None
    """The service queue of the tasks; None if they are in the ledger."""
    unsent: int = 0
    """Tasks that are not sent there yet."""
    is_paused: bool = False
    """Whether no task starts until ``poe resume``."""
    cancelled: int = 0
    """Running tasks that were cancelled, and that their workers have not killed yet."""
    costs: Costs | None = None
    """Of the job's machines; None if it never had any."""

    booting: Booting | None = None
    """Machines on which no worker has started yet; None if there are none."""

    since_rezero: counters.SinceRezero | None = None
    """What was counted since ``poe rezero``; None if it was not run."""

    versions: queries.LibraryVersions | None = None
    """The versions of the library that are used for the job."""

    unattended: dict[str, int] = field(default_factory=dict)
    """The number of pending tasks of each manager that has no worker, by its name."""

    limited: dict[str, int] = field(default_factory=dict)
    """The limit of concurrent tasks of each manager that has reached it, by its name."""

    has_controller: bool = False
    """Whether a controller manages the job's pools."""

    functions: list[FunctionCounts] | None = None
    """The tasks of a graph by their functions; None if the job has no graph, or they were not counted."""

    @property
    def ended(self) -> int:
        """Tasks that ended: succeeded, failed or killed."""
        return self.counts[State.SUCCEEDED] + self.counts[State.FAILED] + self.counts[State.KILLED]

    @property
    def shown_counts(self) -> dict[str, int]:
        """The number of tasks in each state as users see it: RUNNING without the tasks that workers have only prefetched."""
        shown = {}
        for state, n in self.counts.items():
            shown[state.word] = n
            if state is State.RUNNING:
                shown[state.word] = min(n, sum(worker.running for worker in self.workers))
                shown[PREFETCHED] = n - shown[state.word]
        return shown

    def to_json(self) -> dict[str, JSON]:
        """Return the object that ``poe status --json`` prints."""
        durations = None if self.durations is None else {**asdict(self.durations)}
        workers: list[JSON] = [
            {
                "worker_id": worker.worker_id,
                "hostname": worker.hostname,
                "pid": worker.pid,
                "slots": worker.slots,
                "running": worker.running,
                "prefetched": worker.leased - worker.running,
                "seen_at": worker.seen_at,
                "manager": worker.manager or DEFAULT_MANAGER,
            }
            for worker in self.workers
        ]
        return {
            "job_id": self.job_id,
            "total": self.total,
            "counts": {**self.shown_counts},
            "failures": {kind.word: n for kind, n in self.failures.items()},
            "failure_causes": [cause.to_json() for cause in self.causes],
            "began_at": self.began_at,
            "ended_at": self.ended_at,
            "rate_per_second": self.rate_per_second,
            "eta_seconds": self.eta_seconds,
            "durations_seconds": durations,
            "workers": workers,
            "queue_url": self.queue_url,
            "unsent": self.unsent,
            "paused": self.is_paused,
            "cancelled": self.cancelled,
            "duplicates": self.duplicates,
            "retries": self.retries,
            "lost": self.lost,
            "spot_terminations": self.spot_terminations,
            "since_rezero": None if self.since_rezero is None else asdict(self.since_rezero),
            "costs": None if self.costs is None else self.costs.to_json(),
            "booting": None if self.booting is None else self.booting.to_json(),
            "managers_without_workers": {**self.unattended},
            "managers_at_their_limit": {**self.limited},
            "functions": None
            if self.functions is None
            else {one.name: {state.word: n for state, n in one.counts.items() if n} for one in self.functions},
        }


def gather(
    database: Database, now: float, *, by_function: bool = False, configuration: Configuration | None = None
) -> Status:
    """Read a job's status at one instant.

    Args:
        database: The ledger.
        now: Seconds since the epoch.
        by_function: Whether to count the tasks of a graph by their functions, unless there are very many.
        configuration: The settings, to find managers that have reached their limits; None for not looking for them.
    """
    with database.snapshot():
        counts = counters.by_state(database)
        tallies = counters.tallies(database)
        durations = counters.durations(database)
        failures = counters.by_failure_kind(database)
        alive = queries.workers(database)
        began_at = database.value("SELECT min(started_at) FROM worker")
        last_second = database.value("SELECT max(second) FROM throughput")
        last_end_at = None if last_second is None else last_second + 1.0
        left = counts[State.WAITING] + counts[State.PENDING] + counts[State.RUNNING]
        is_over = bool(tallies["inserted"]) and not left
        if is_over and began_at is not None and last_end_at is not None:
            done = counts[State.SUCCEEDED] + counts[State.FAILED]
            rate: float | None = done / max(last_end_at - began_at, 1.0)
        else:
            rate = pace.rate_per_second(database, durations, alive, now)
        eta = pace.eta_seconds(left, rate, durations, alive, last_end_at, now)
        return Status(
            job_id=database.value("SELECT job_id FROM job"),
            total=tallies["inserted"],
            counts=counts,
            failures=failures,
            causes=failure_causes(database, [kind for kind, n in failures.items() if n]),
            rate_per_second=rate,
            eta_seconds=eta,
            durations=durations,
            workers=alive,
            began_at=began_at,
            ended_at=last_end_at if is_over else None,
            duplicates=tallies["duplicates"],
            retries=tallies["retries"],
            lost=tallies["lost"],
            queue_url=(queue_url := database.value("SELECT queue_url FROM job")),
            unsent=sending.count_unsent(database) if queue_url else 0,
            is_paused=control.is_paused(database),
            cancelled=control.count_running(database),
            spot_terminations=database.value(
                "SELECT count(*) FROM worker WHERE end_reason = ?", (WorkerEnd.PREEMPTED,)
            ),
            costs=compute_costs(database, succeeded=counts[State.SUCCEEDED], eta_seconds=eta, now=now),
            booting=find_booting(database, now),
            since_rezero=counters.since_rezero(database),
            versions=queries.library_versions(database),
            unattended=find_unattended(database, {worker.manager_id for worker in alive}),
            limited={} if configuration is None else find_limited(database, alive, configuration),
            has_controller=pool_control.running(database, now) is not None,
            functions=_count_by_function(database) if by_function else None,
        )


def _count_by_function(database: Database) -> list[FunctionCounts] | None:
    tasks, runs = function_graph.count_runs(database)
    if not tasks or tasks > MOST_TASKS_BY_FUNCTION or runs > MOST_RUNS_BY_FUNCTION:
        return None
    return function_graph.count_by_function(database)
