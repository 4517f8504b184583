"""What a version of the library reads in a ledger, as it is kept in ``*.expected.json``."""

from collections import Counter
from dataclasses import asdict

from taskfleet.ledger import counters, leasing, queries
from taskfleet.pool import control, records
from taskfleet.pool.costs import compute_costs
from taskfleet.pool.job_state import failures
from taskfleet.tasks import FAILURE_KINDS


def report(database):
    """Return what this version of the library reads in a ledger."""
    durations = counters.durations(database)
    return {
        "counts": counts(database),
        "failures": {kind.word: n for kind, n in counters.by_failure_kind(database).items()},
        "tallies": counters.tallies(database),
        "durations": None if durations is None else asdict(durations),
        "examples": examples(database),
        "exceptions": exceptions(database),
        "next_due_at": leasing.next_due_at(database, 0),
        "has_leasable": leasing.has_leasable(database, 0),
        "workers": [
            {"running" if k == "leased" else k: v for k, v in asdict(one).items()} for one in queries.workers(database)
        ],
        "workers_ever": [
            list(row)
            for row in database.rows(
                "SELECT worker_id, hostname, pid, slots, started_at, seen_at, lease_until, ended_at, end_reason, machine, busy_seconds "
                "FROM worker ORDER BY worker_id"
            )
        ],
        "tasks": [report_task(database, line) for line in lines(database)],
        "results": list(queries.results(database)),
    }


def reasons(database):
    return {kind: queries.failure_reasons(database, kind, 1_000_000) for kind in FAILURE_KINDS}


def examples(database):
    """The first failure of each kind."""
    firsts = {kind: min(found, key=lambda one: one.first_seq) for kind, found in reasons(database).items() if found}
    return {kind.word: [first.task_id, first.reason] for kind, first in firsts.items()}


def exceptions(database):
    """The errors with their counts, whatever their kind."""
    numbers = Counter()
    for one in (one for found in reasons(database).values() for one in found if one.reason):
        numbers[one.reason] += one.n
    return [list(item) for item in sorted(numbers.items(), key=lambda item: (-item[1], item[0]))]


def counts(database):
    return {state.word: n for state, n in counters.by_state(database).items()}


def lines(database):
    return list(queries.list_tasks(database, limit=100_000))


def report_task(database, line):
    task = queries.find_task(database, line.task_id)
    assert (task.seq, task.state, task.kind) == (line.seq, line.state, line.kind)
    return {
        "seq": task.seq,
        "id": task.task_id,
        "data": task.data,
        "state": task.state.word,
        "kind": None if task.kind is None else task.kind.word,
        "reason": line.reason,
        "attempt": line.attempts,
        "available_at": task.available_at,
        "hostname": task.hostname,
        "attempts": [
            [one.number, one.outcome.word, first_line(one.error), one.result, one.elapsed_seconds]
            for one in task.attempts
        ],
    }


def first_line(text):
    return None if text is None else text.partition("\n")[0]


def report_pool(database, now):
    """Return what this version reads about the machines of a job."""
    costs = compute_costs(database, succeeded=counts(database)["succeeded"], eta_seconds=None, now=now)
    worked = records.productive_machines(database)
    return {
        "costs": costs.to_json(),
        "spent_usd": records.spent_usd(database),
        "orders": records.count_requests(database),
        "open": [one.token for one in records.open_machines(database)],
        "controller": list(control.controller(database)),
        "stop_asked_at": database.value("SELECT stop_asked_at FROM pool"),
        "was_ever_ready": records.was_ever_ready(database),
        "heard_at": records.last_heartbeats(database),
        "has_worked": worked,
        "did_nothing": failures(database, worked),
        "closed_ids": sorted(records.closed_ids(database, 0.0)),
        "machines": [report_machine(one, now) for one in records.all_machines(database)],
    }


def report_machine(one, now):
    return asdict(one) | {
        "kind": list(one.kind),
        "cost_usd": one.cost_usd(now),
        "most_cost_usd": one.max_cost_usd(now),
    }
