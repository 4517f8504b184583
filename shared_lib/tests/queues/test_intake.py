"""What a worker decides about the tasks of a message it received, without a service."""

import math

import pytest
from taskfleet.messages.formats import NewerFormatError
from taskfleet.messages.tasks import QueuedTask, TaskMessage, pack
from taskfleet.queues.in_flight import InFlightMessages
from taskfleet.queues.intake import Intake
from taskfleet.queues.outbox import Outbox
from taskfleet.queues.receiver import Arrival
from taskfleet.queues.transport import Message
from taskfleet.tasks import LAST_ATTEMPT, Outcome, RetryPolicy


def test_a_message_of_a_newer_format_is_given_back_as_it_is_and_counts_as_a_new_one():
    in_flight, outbox = InFlightMessages("me", lease_seconds=30.0), Outbox()
    intake = Intake(job_id="job", policy=RetryPolicy(retries={}), in_flight=in_flight, outbox=outbox)
    body = '{"taskfleet":2,"what":"nobody here knows"}\n{}'
    held = in_flight.add("receipt", received_at=0.0, longest_lease_seconds=math.inf)
    with pytest.raises(NewerFormatError):
        intake.open(Arrival(held, Message(body, "receipt", deliveries=4)), now=0.0)
    decided = outbox.take(0.0)
    assert (decided.messages, decided.receipts, decided.reports) == ([body], ["receipt"], {})


def test_a_task_that_is_lost_at_its_last_attempt_number_gets_no_other():
    in_flight, outbox = InFlightMessages("me", lease_seconds=30.0), Outbox()
    policy = RetryPolicy(retries={Outcome.LOST: 900})
    intake = Intake(job_id="job", policy=policy, in_flight=in_flight, outbox=outbox)
    task = QueuedTask(7, "t7", "{}", LAST_ATTEMPT - 1, ((int(Outcome.LOST), 3),))
    body = pack(TaskMessage(job_id="job", ledger="1", tasks=[task]))
    held = in_flight.add("receipt", received_at=0.0, longest_lease_seconds=math.inf)
    assert intake.open(Arrival(held, Message(body, "receipt", deliveries=3)), now=0.0) == []
    decided = outbox.take(0.0)
    [(death, retry_delay_seconds)] = decided.reports["1"].ended
    assert (death.attempt, death.outcome, retry_delay_seconds) == (LAST_ATTEMPT, Outcome.LOST, None)
    assert (decided.tasks, decided.receipts) == ([], ["receipt"])
