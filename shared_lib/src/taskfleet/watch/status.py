"""The status of a job at one instant; reading it does not take longer with more tasks."""

from dataclasses import asdict, dataclass

from taskfleet.ledger import counters, queries, sending
from taskfleet.ledger.counters import Durations
from taskfleet.ledger.database import Database
from taskfleet.pool.costs import Costs, compute_costs
from taskfleet.tasks import JSON, Outcome, State, WorkerEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A job at one instant. Times are seconds since the epoch."""

    job_id: str
    total: int
    counts: dict[State, int]
    failures: dict[Outcome, int]
    """FAILED tasks by kind."""
    examples: dict[Outcome, tuple[str, str]]
    """For each kind, the id and the reason of one task that failed so."""
    rate_per_second: float | None
    """Tasks that ended per second over the last minute; None if none did."""
    eta_seconds: float | None
    """Time until all are done at that rate; None if unknown or if no worker is running."""
    durations: Durations | None
    workers: list[queries.WorkerRecord]
    began_at: float | None
    """When the first worker started."""
    last_end_at: float | None
    """When the last task ended, to the second."""
    duplicates: int
    retries: int
    lost: int
    spot_terminations: int
    """Workers that ended because of a termination notice."""
    queue_url: str | None = None
    """The service queue of the tasks; None if they are in the ledger."""
    unsent: int = 0
    """Tasks that are not sent there yet."""
    costs: Costs | None = None
    """Of the job's machines; None if it never had any."""

    versions: queries.LibraryVersions | None = None
    """The versions of the library that are used for the job."""

    @property
    def ended(self) -> int:
        """Tasks that ended: succeeded, failed or killed."""
        return self.counts[State.SUCCEEDED] + self.counts[State.FAILED] + self.counts[State.KILLED]

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
                "seen_at": worker.seen_at,
            }
            for worker in self.workers
        ]
        return {
            "job_id": self.job_id,
            "total": self.total,
            "counts": {state.word: n for state, n in self.counts.items()},
            "failures": {kind.word: n for kind, n in self.failures.items()},
            "rate_per_second": self.rate_per_second,
            "eta_seconds": self.eta_seconds,
            "durations_seconds": durations,
            "workers": workers,
            "queue_url": self.queue_url,
            "unsent": self.unsent,
            "duplicates": self.duplicates,
            "retries": self.retries,
            "lost": self.lost,
            "spot_terminations": self.spot_terminations,
            "costs": None if self.costs is None else self.costs.to_json(),
        }


def gather(database: Database, now: float) -> Status:
    """Read a job's status at one instant."""
    with database.snapshot():
        counts = counters.by_state(database)
        tallies = counters.tallies(database)
        rate = counters.rate_per_second(database, now)
        alive = queries.workers(database)
        began_at, _ = database.row("SELECT min(started_at), 0 FROM worker") or (None, 0)
        last_second = database.value("SELECT max(second) FROM throughput")
        left = counts[State.WAITING] + counts[State.PENDING] + counts[State.RUNNING]
        eta = 0.0 if not left else left / rate if rate and alive else None
        return Status(
            job_id=database.value("SELECT job_id FROM job"),
            total=tallies["inserted"],
            counts=counts,
            failures=counters.by_failure_kind(database),
            examples=queries.failure_examples(database) if counts[State.FAILED] else {},
            rate_per_second=rate,
            eta_seconds=eta,
            durations=counters.durations(database),
            workers=alive,
            began_at=began_at,
            last_end_at=None if last_second is None else last_second + 1.0,
            duplicates=tallies["duplicates"],
            retries=tallies["retries"],
            lost=tallies["lost"],
            queue_url=(queue_url := database.value("SELECT queue_url FROM job")),
            unsent=sending.count_unsent(database) if queue_url else 0,
            spot_terminations=database.value(
                "SELECT count(*) FROM worker WHERE end_reason = ?", (WorkerEnd.PREEMPTED,)
            ),
            costs=compute_costs(database, succeeded=counts[State.SUCCEEDED], eta_seconds=eta, now=now),
            versions=queries.library_versions(database),
        )
