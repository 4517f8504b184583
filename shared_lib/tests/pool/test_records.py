"""Records of machines in the ledger, including those of earlier versions."""

import pytest
from taskfleet.errors import UnusableLedgerError
from taskfleet.ledger import migrations, queries
from taskfleet.ledger.database import create, open_ledger
from taskfleet.machines import EndReason, FailureReason, LaunchRequest, Machine, MachineState
from taskfleet.pool import records, updates
from taskfleet.pool.records import End
from taskfleet.version import VERSION

from shared_lib.tests.machines.contract import offer


@pytest.fixture
def old_ledger(tmp_path, monkeypatch):
    """A ledger as it was before reasons were codes."""
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:3])
        database = create(tmp_path / "job.db", job_id="job", project=tmp_path, now=0.0)
    yield database
    database.close()


def write(database, reason, *, ordered_at=100.0, started_at=110.0, ended_at=200.0, ending_since=None, instance_id="i"):
    """Add a machine as d7e5b3d did."""
    database.execute(
        "INSERT INTO machine (token, order_token, instance_id, provider, zone, instance_type, market, usd_per_hour, slots, cpus, "
        "lifetime_seconds, ordered_at, started_at, ready_at, ended_at, end_reason, ending_since) "
        "VALUES ('job-1-a-1', 'job-1-a', ?, 'aws', 'z', 't', 'spot', 3.6, 1, 1, 1000.0, ?, ?, NULL, ?, ?, ?)",
        (instance_id, ordered_at, started_at, ended_at, reason, ending_since),
    )


def read_again(database):
    """Read a ledger with today's version, then migrate it; both show the same machine, which is returned."""
    database.close()
    reader = open_ledger(database.path, job_id="job", read_only=True)
    [before] = records.all_machines(reader)
    reader.close()
    again = open_ledger(database.path, job_id="job")
    [machine] = records.all_machines(again)
    again.close()
    assert machine == before
    return machine


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("all tasks are done", EndReason.DONE),
        ("no worker was heard in time", EndReason.LATE),
        ("its worker fell silent", EndReason.SILENT),
        ("not in the ledger", EndReason.UNKNOWN),
        ("stopped by the user", EndReason.STOPPED),
        ("torn down by the user", EndReason.TORN_DOWN),
        ("terminated by the user", EndReason.TERMINATED),
    ],
)
@pytest.mark.parametrize("ended_at", [200.0, None])
def test_what_the_pool_wrote_as_a_sentence_is_a_code(old_ledger, sentence, reason, ended_at):
    write(old_ledger, sentence, ended_at=ended_at, ending_since=150.0)
    machine = read_again(old_ledger)
    assert (machine.end_reason, machine.detail, machine.end_text) == (reason, "", reason.words)


@pytest.mark.parametrize(
    ("sentence", "reason", "detail"),
    [
        (
            "preempted: Server.SpotInstanceTermination: Gone",
            EndReason.PREEMPTED,
            "Server.SpotInstanceTermination: Gone",
        ),
        ("preempted: Google Cloud took it back", EndReason.PREEMPTED, "Google Cloud took it back"),
        ("its worker ended with code 3", EndReason.ENDED, "its worker ended with code 3"),
        ("Server.InternalError: on launch", EndReason.ENDED, "Server.InternalError: on launch"),
        ("deleted by someone@example.com", EndReason.ENDED, "deleted by someone@example.com"),
        ("preemptedness", EndReason.ENDED, "preemptedness"),
        ("gone", EndReason.GONE, ""),
    ],
)
def test_the_provider_s_words_about_an_end_are_kept(old_ledger, sentence, reason, detail):
    write(old_ledger, sentence)
    machine = read_again(old_ledger)
    assert (machine.end_reason, machine.detail) == (reason, detail)
    assert machine.end_text == (sentence if detail else reason.words)


@pytest.mark.parametrize(
    ("sentence", "reason", "detail"),
    [
        ("no capacity: None: none here (Insufficient)", EndReason.STOCK_OUT, "None: none here (Insufficient)"),
        ("quota: Limit: 24.0", EndReason.QUOTA, "Limit: 24.0"),
        ("throttled: Slowly", EndReason.THROTTLED, "Slowly"),
        ("price: Too low", EndReason.PRICE, "Too low"),
        ("refused: no reason given", EndReason.INVALID, "no reason given"),
        ("AWS: no credentials were found.", EndReason.LAUNCH_ERROR, "AWS: no credentials were found."),
        ("never seen to start", EndReason.NEVER_STARTED, ""),
    ],
)
def test_why_a_machine_was_not_launched_is_kept(old_ledger, sentence, reason, detail):
    write(old_ledger, sentence, started_at=None, ended_at=100.0, instance_id=None)
    machine = read_again(old_ledger)
    assert (machine.end_reason, machine.detail) == (reason, detail)
    assert machine.end_text == reason.describe(detail)
    assert machine.end_text.endswith(detail)
    assert machine.cost_usd(1000.0) == 0


def test_why_a_pool_gave_up_is_kept(old_ledger):
    write(old_ledger, "AWS: no credentials were found", ending_since=150.0)
    machine = read_again(old_ledger)
    assert (machine.end_reason, machine.detail) == (EndReason.GAVE_UP, "AWS: no credentials were found")
    assert machine.end_text == "the pool gave up: AWS: no credentials were found"


def test_a_machine_that_is_there_has_no_reason(old_ledger):
    write(old_ledger, None, ended_at=None)
    machine = read_again(old_ledger)
    assert (machine.end_reason, machine.detail, machine.end_text) == (None, "", "")


@pytest.mark.parametrize("reason", FailureReason)
def test_why_a_launch_failed_is_stored_as_the_reason_of_that_name(reason):
    assert reason.end_reason is EndReason[reason.name]
    assert reason.end_reason.words == reason.words


# --- machines that may be queued ---


@pytest.fixture
def ledger(tmp_path):
    database = create(tmp_path / "job.db", job_id="job", project=tmp_path, now=0.0)
    yield database
    database.close()


def ask(ledger, *, can_queue=True):
    """Add a machine of 3600 USD per hour with a lifetime of an hour; return its token."""
    request = LaunchRequest(token="job-1-a", number=1, offers=(offer("t", "z", usd=3600.0),), lifetime_seconds=3600.0)
    updates.add_request(ledger, request, provider="p", now=1000.0, can_queue=can_queue)
    return request.tokens[0]


def the_machine(ledger):
    [one] = records.all_machines(ledger)
    return one


def test_a_machine_is_recorded_with_the_library_version_that_it_gets(ledger):
    ask(ledger)
    assert queries.library_versions(ledger).machines == {VERSION: 1}


def test_the_time_in_the_queue_is_no_cost(ledger):
    token = ask(ledger)
    assert the_machine(ledger).max_cost_usd(1000.0) == 3600.0
    updates.mark_started(ledger, token, token, None, 1000.0, None)
    assert the_machine(ledger).is_queued
    assert (the_machine(ledger).cost_usd(9000.0), the_machine(ledger).max_cost_usd(9000.0)) == (0.0, 3600.0)
    updates.mark_running(ledger, {token: 9000.0})
    assert not the_machine(ledger).is_queued
    assert (the_machine(ledger).cost_usd(9100.0), the_machine(ledger).max_cost_usd(9100.0)) == (100.0, 3600.0)
    updates.mark_ended(ledger, {token: End(EndReason.ENDED)}, 9200.0)
    assert the_machine(ledger).cost_usd(1e6) == records.spent_usd(ledger) == 200.0


@pytest.mark.parametrize(("reported_at", "hours"), [(9100.0, 100.0 / 3600), (12_800.0, 3800.0 / 3600), (None, 1.0)])
def test_a_machine_costs_until_its_provider_says_that_it_ended_else_at_most_for_its_lifetime(
    ledger, reported_at, hours
):
    request = LaunchRequest(token="job-1-a", number=1, offers=(offer("t", "z", nodes=2.0),), lifetime_seconds=3600.0)
    updates.add_request(ledger, request, provider="p", now=1000.0, can_queue=True)
    [token] = request.tokens
    updates.mark_started(ledger, token, token, request.offers[0], 1000.0, 9000.0)
    updates.mark_ended(ledger, {token: End(EndReason.ENDED, ended_at=reported_at)}, 20_000.0)
    assert the_machine(ledger).node_hours(1e6) == records.spent_node_hours(ledger) == pytest.approx(2.0 * hours)


def test_a_lifetime_begins_when_the_machine_runs(ledger):
    token = ask(ledger)
    updates.mark_started(ledger, token, token, None, 1000.0, None)
    updates.mark_running(ledger, {token: 9000.0})
    updates.mark_ended(ledger, {token: End(EndReason.GONE)}, 99_999.0)
    assert the_machine(ledger).ended_at == 9000.0 + 3600.0


def test_what_never_ran_cost_nothing_and_is_no_failure(ledger):
    token = ask(ledger)
    updates.mark_started(ledger, token, token, None, 1000.0, None)
    updates.mark_ended(ledger, {token: End(EndReason.CANCELLED, "by hand")}, 9000.0)
    one = the_machine(ledger)
    assert (one.ended_at, one.running_at, one.cost_usd(9000.0)) == (9000.0, None, 0.0)
    assert records.spent_usd(ledger) == 0
    assert records.ended_since(ledger, 0.0) == []


def test_when_one_began_to_run_may_be_known_at_its_end_only(ledger):
    token = ask(ledger)
    updates.mark_started(ledger, token, token, None, 1000.0, None)
    updates.mark_ended(ledger, {token: End(EndReason.ENDED, "", 8000.0)}, 9000.0)
    assert records.spent_usd(ledger) == 1000.0
    assert [one.token for one in records.ended_since(ledger, 0.0)] == [token]


@pytest.mark.parametrize(
    ("can_queue", "state", "since", "running_at"),
    [
        (False, MachineState.RUNNING, None, 1000.0),
        (True, MachineState.QUEUED, None, None),
        (True, MachineState.RUNNING, 8000.0, 8000.0),
        (True, MachineState.RUNNING, 500.0, 1000.0),
        (True, MachineState.RUNNING, None, 1000.0),
    ],
)
def test_one_that_counted_as_gone_and_is_there_costs_from_when_it_runs(ledger, can_queue, state, since, running_at):
    token = ask(ledger, can_queue=can_queue)
    updates.mark_never_started(ledger, {token: End(EndReason.NEVER_STARTED)})
    machine = Machine(instance_id="i-1", request_token="job-1-a", state=state, running_since=since)
    assert updates.reopen(ledger, machine, 9000.0)
    one = the_machine(ledger)
    assert (one.instance_id, one.running_at, one.ended_at, one.ending_since) == ("i-1", running_at, None, 9000.0)
    assert one.cost_usd(9000.0) == (0.0 if running_at is None else 9000.0 - running_at)


def test_what_the_provider_says_of_a_machine_gives_way_to_why_it_ended(ledger):
    token = ask(ledger)
    updates.mark_started(ledger, token, token, None, 1000.0, None)
    updates.update_details(ledger, {token: "Priority"})
    assert the_machine(ledger).detail == "Priority"
    updates.mark_ending(ledger, [token], End(EndReason.DONE), 2000.0)
    assert the_machine(ledger).end_text == "all tasks are done"
    updates.update_details(ledger, {token: "Priority"})
    updates.mark_ended(ledger, {token: End(EndReason.ENDED, "CANCELLED by 1000")}, 2010.0)
    assert the_machine(ledger).end_text == "all tasks are done"


@pytest.mark.parametrize(("column", "value"), [("market", "free"), ("end_reason", "boredom")])
def test_a_machine_with_a_value_that_no_version_wrote_makes_the_ledger_unusable(tmp_path, column, value):
    """It does not heal, so nobody retries it."""
    database = create(tmp_path / "job.db", job_id="job", project=tmp_path, now=0.0)
    write(database, "stopped")
    database.execute(f"UPDATE machine SET {column} = ?", (value,))
    with pytest.raises(UnusableLedgerError, match=f"unknown market or end .*{value}.*it is damaged"):
        records.all_machines(database)
    database.close()


@pytest.mark.parametrize(("at", "ended_at"), [(8500.0, 8500.0), (None, 9000.0), (9500.0, 9000.0), (100.0, 8000.0)])
def test_a_machine_whose_provider_knows_when_it_ended_costs_until_then(ledger, at, ended_at):
    """Not before its start, and not after now, whatever the provider's clock says."""
    token = ask(ledger)
    updates.mark_ended(ledger, {token: End(EndReason.ENDED, "", 8000.0, at)}, 9000.0)
    assert the_machine(ledger).ended_at == ended_at
