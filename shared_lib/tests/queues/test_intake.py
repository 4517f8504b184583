"""What a worker decides about the tasks of a message it received, without a service."""

import json
import math

import pytest
from taskfleet.messages.formats import MisdirectedMessageError, NewerFormatError
from taskfleet.messages.tasks import QueuedTask, TaskMessage, pack
from taskfleet.queues import set_aside
from taskfleet.queues.in_flight import InFlightMessages
from taskfleet.queues.intake import Intake
from taskfleet.queues.outbox import Outbox
from taskfleet.queues.receiver import Arrival
from taskfleet.queues.set_aside import SetAside
from taskfleet.queues.transport import Message
from taskfleet.tasks import LAST_ATTEMPT, Outcome, RetryPolicy


class Taker:
    """A worker's intake with everything that it hands on."""

    def __init__(self, folder, **retries):
        self.said = []
        self.in_flight, self.outbox = InFlightMessages("me", lease_seconds=30.0), Outbox()
        self.kept = folder / "job.set-aside.jsonl"
        self.intake = Intake(
            job_id="job",
            policy=RetryPolicy(retries={Outcome[name.upper()]: n for name, n in retries.items()}),
            in_flight=self.in_flight,
            outbox=self.outbox,
            set_aside=SetAside(self.kept, self.said.append),
        )

    def open(self, body, deliveries=1):
        held = self.in_flight.add("receipt", received_at=0.0, longest_lease_seconds=math.inf)
        return self.intake.open(Arrival(held, Message(body, "receipt", deliveries=deliveries)), now=0.0)


@pytest.fixture
def taker(tmp_path):
    return Taker(tmp_path, lost=900)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"taskfleet":9999,"what":"nobody here knows"}\n{}', NewerFormatError),
        (
            pack(TaskMessage(job_id="other", ledger="1", tasks=[QueuedTask(1, "t", "{}")])),
            MisdirectedMessageError,
        ),
    ],
    ids=["a newer format", "another job"],
)
def test_a_message_for_another_version_or_job_is_given_back_as_it_is_and_counts_as_a_new_one(taker, body, error):
    with pytest.raises(error):
        taker.open(body, deliveries=4)
    decided = taker.outbox.take(0.0)
    assert (decided.messages, decided.receipts, decided.reports) == ([body], ["receipt"], {})
    assert (taker.said, taker.kept.exists()) == ([], False)


def test_a_task_that_is_lost_at_its_last_attempt_number_gets_no_other(taker):
    task = QueuedTask(7, "t7", "{}", LAST_ATTEMPT - 1, ((int(Outcome.LOST), 3),))
    assert taker.open(pack(TaskMessage(job_id="job", ledger="1", tasks=[task])), deliveries=3) == []
    decided = taker.outbox.take(0.0)
    [(death, retry_delay_seconds)] = decided.reports["1"].ended
    assert (death.attempt, death.outcome, retry_delay_seconds) == (LAST_ATTEMPT, Outcome.LOST, None)
    assert (decided.tasks, decided.receipts) == ([], ["receipt"])


def test_a_foreign_message_is_kept_in_a_file_and_deleted_from_the_queue(taker):
    assert taker.open("hello \x1b[2J", deliveries=3) == []
    decided = taker.outbox.take(0.0)
    assert (decided.messages, decided.tasks, decided.receipts) == ([], [], ["receipt"])
    [line] = taker.kept.read_text().splitlines()
    kept = json.loads(line)
    assert (kept["queue"], kept["message"]) == ("tasks", "hello \x1b[2J")
    assert "taskfleet did not write" in kept["reason"]
    assert taker.kept.stat().st_mode & 0o777 == 0o600
    [said] = taker.said
    assert str(taker.kept) in said
    assert "\x1b" not in said


def test_many_foreign_messages_are_said_in_few_lines_and_kept_up_to_a_size(taker, monkeypatch):
    monkeypatch.setattr(set_aside, "MOST_BYTES", 5000)
    for n in range(1000):
        assert taker.open(f"hello {n}") == []
    assert len(taker.said) == 3 + 3  # the first three, and the 10th, 100th and 1000th
    assert "1,000 messages" in taker.said[-1]
    assert "is full" in taker.said[-1]
    assert 4000 < taker.kept.stat().st_size <= 5000


def test_a_foreign_message_that_cannot_be_kept_does_not_stop_the_worker(taker):
    taker.kept.mkdir()
    assert taker.open("hello") == []
    assert "cannot be written" in taker.said[0]
    assert taker.outbox.take(0.0).receipts == ["receipt"]


def test_no_task_of_a_message_runs_if_one_of_them_is_wrong(taker):
    body = pack(TaskMessage(job_id="job", ledger="1", tasks=[QueuedTask(1, "a", "{}"), QueuedTask(2, "b", "[]")]))
    assert taker.open(body) == []
    assert not taker.in_flight.has_tasks
