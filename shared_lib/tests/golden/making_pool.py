"""Makes ``pool.db``."""

from taskfleet.ledger import leasing
from taskfleet.machines import EndReason, LaunchRequest, Machine, MachineState
from taskfleet.pool import control, records, updates
from taskfleet.pool.records import End

from shared_lib.tests.golden.making import BOOT, Ledger, canonical, ended
from shared_lib.tests.golden.report import report_pool
from shared_lib.tests.machines.contract import offer

OFFERS = {
    "local": offer("process", "host-a", slots=2),
    "aws": offer("c7g.large", "us-east-1a", usd=0.03, slots=2),
    "gcp": offer("n2d-standard-2", "us-central1-a", usd=0.04, slots=2),
}
NOT_LAUNCHED = (
    *(EndReason.NEVER_STARTED, EndReason.STOCK_OUT, EndReason.QUOTA, EndReason.THROTTLED),
    *(EndReason.PRICE, EndReason.INVALID, EndReason.LAUNCH_ERROR),
)


def make_pool(folder):
    ledger = Ledger("pool")
    database = ledger.database
    ledger.insert(canonical([{"n": n} for n in range(60)]))
    for index, reason in enumerate(EndReason):
        provider = list(OFFERS)[index % 3]
        detail = "in the provider's wörds" if index % 2 else ""
        token = request(ledger, provider, can_queue=reason in (EndReason.CANCELLED, EndReason.NOTHING_WORKED))
        if reason in NOT_LAUNCHED:
            updates.mark_never_started(database, {token: End(reason, detail)})
            continue
        is_queued = reason in (EndReason.CANCELLED, EndReason.NOTHING_WORKED)
        start(ledger, provider, token, running_at=None if is_queued else ledger.now)
        if index % 4 == 0:
            work(ledger, token)
        ledger.now += 600
        updates.mark_ending(database, [token], End(reason, detail), ledger.now)
        updates.mark_ended(database, {token: End(reason, detail)}, ledger.now + 20)
    for provider in OFFERS:  # machines in every phase
        request(ledger, provider)
        start(ledger, provider, request(ledger, provider))
        start(ledger, provider, request(ledger, provider, can_queue=True), running_at=None)
        start(ledger, provider, working := request(ledger, provider))
        work(ledger, working, is_ended=False)
        start(ledger, provider, ending := request(ledger, provider))
        updates.mark_ending(database, [ending], End(EndReason.LATE), ledger.now)
        found = request(ledger, provider)
        updates.mark_never_started(database, {found: End(EndReason.NEVER_STARTED)})
        again = Machine(instance_id=f"id-{found}", request_token=found.rpartition("-")[0], state=MachineState.RUNNING)
        assert updates.reopen(database, again, ledger.now)
    assert control.acquire(database, f"{BOOT}0c/4026531836|77|7700", ledger.now) is None
    assert control.request_stop(database, ledger.now + 4)
    costs_at = ledger.now + 3600
    ledger.keep(folder, costs_at=costs_at, **report_pool(database, costs_at))


def request(ledger, provider, *, can_queue=False):
    """Write down a machine that is about to be launched; return its token."""
    ledger.now += 30
    number = records.count_requests(ledger.database) + 1
    one = LaunchRequest(token=f"pool-{number}", number=1, offers=(OFFERS[provider],), lifetime_seconds=86_400.0)
    updates.add_request(ledger.database, one, provider=provider, now=ledger.now, can_queue=can_queue)
    return one.tokens[0]


def start(ledger, provider, token, **running):
    ledger.now += 5
    running_at = running.get("running_at", ledger.now)
    updates.mark_started(ledger.database, token, f"id-{token}", OFFERS[provider], ledger.now, running_at)


def work(ledger, token, *, is_ended=True):
    """Have a worker on a machine do a task, and go on with another one unless it ends."""
    worker_id = ledger.worker("host-m", machine=f"id-{token}", lease_seconds=1e7)
    updates.mark_ready(ledger.database, [token], ledger.now)
    [lease] = ledger.lease(worker_id, lease_seconds=1e7)
    ledger.now += 20
    ledger.finish(worker_id, ended(ledger, lease, seconds=20.0))
    if is_ended:
        leasing.end_worker(ledger.database, worker_id, now=ledger.now)
    else:
        ledger.lease(worker_id, lease_seconds=1e7)
