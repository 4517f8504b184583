"""What the ledger remembers of machines, also what earlier versions wrote into it."""

import pytest
from taskfleet.ledger import database as ledgers
from taskfleet.ledger.database import create, open_ledger
from taskfleet.machines import EndReason, FailureReason
from taskfleet.pool import records


@pytest.fixture
def old_ledger(tmp_path, monkeypatch):
    """A ledger as it was before reasons were codes."""
    with monkeypatch.context() as patch:
        patch.setattr(ledgers, "MIGRATIONS", ledgers.MIGRATIONS[:3])
        database = create(tmp_path / "job.db", job_id="job", project=tmp_path, now=0.0)
    yield database
    database.close()


def write(database, reason, *, ordered_at=100.0, started_at=110.0, ended_at=200.0, ending_since=None, instance_id="i"):
    """Write a machine down as d7e5b3d did."""
    database.execute(
        "INSERT INTO machine (token, order_token, instance_id, provider, zone, instance_type, market, usd_per_hour, slots, cpus, "
        "lifetime_seconds, ordered_at, started_at, ready_at, ended_at, end_reason, ending_since) "
        "VALUES ('job-1-a-1', 'job-1-a', ?, 'aws', 'z', 't', 'spot', 3.6, 1, 1, 1000.0, ?, ?, NULL, ?, ?, ?)",
        (instance_id, ordered_at, started_at, ended_at, reason, ending_since),
    )


def read_again(database):
    """Open a ledger with today's version, which brings it up to date; give its machine."""
    again = open_ledger(database.path, job_id="job")
    [machine] = records.all_machines(again)
    again.close()
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
    assert (machine.end_reason, machine.detail, machine.end_text) == (reason, "", sentence)


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
    assert (machine.end_reason, machine.detail, machine.end_text) == (reason, detail, sentence)


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
    assert (machine.end_reason, machine.detail, machine.end_text) == (reason, detail, sentence)
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
