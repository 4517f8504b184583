"""The main loop of a pool during outages of the queue, of the provider and of the ledger."""

import time
from contextlib import closing

import pytest
from taskfleet.errors import LedgerError, UnreachableError
from taskfleet.ledger.database import create
from taskfleet.pool import control, deployment
from taskfleet.pool.deployment import Deployment, Ending
from taskfleet.pool.job_machines import JobMachines
from taskfleet.pool.pools import Outcome
from taskfleet.pool.teardown import terminate_all
from taskfleet.processes.identity import identity


class Display:
    def __init__(self):
        self.said = []

    def tick(self, now):
        pass

    def say(self, line):
        self.said.append(line)


class Steps:
    """Pools whose steps do what a test says, one after the other."""

    def __init__(self, *actions):
        self.actions = list(actions)
        self.count = 0

    def step(self, now):
        self.count += 1
        return self.actions.pop(0)() or Outcome()


@pytest.fixture
def database(tmp_path):
    with closing(create(tmp_path / "jobs" / "a.db", job_id="a", project=tmp_path, now=time.time())) as database:
        control.acquire(database, identity(), time.time())
        yield database


@pytest.fixture
def display():
    return Display()


@pytest.fixture
def make(database, display, monkeypatch):
    monkeypatch.setattr(deployment, "ERROR_PAUSE_SECONDS", 0.0)

    def make(controller, record_events):
        return Deployment(
            database,
            controller,
            None,
            record_events=record_events,
            progress=display,
            on_interrupt=lambda: None,
            poll_seconds=0.0,
            ending_poll_seconds=0.0,
            empty_lists_to_confirm=1,
        )

    return make


def test_no_machine_is_judged_while_events_cannot_be_received_and_a_stop_is_obeyed(database, make):
    calls = 0

    def record_events():
        nonlocal calls
        calls += 1
        if calls == 5:
            control.request_stop(database, time.time())
        raise UnreachableError("away")

    controller = Steps()
    assert make(controller, record_events).run() is Ending.STOPPED
    assert controller.count == 0
    assert calls == 5


def test_an_outage_of_the_ledger_is_reported_once_and_so_is_its_end(database, make, display):
    errors = [LedgerError("The disk is full.")] * 5

    def record_events():
        if errors:
            raise errors.pop()
        return 0

    def stop():
        control.request_stop(database, time.time())

    make(Steps(stop), record_events).run()
    assert display.said == ["The disk is full. Retrying.", "The ledger is available again."]


def test_an_error_of_the_ledger_in_the_step_itself_is_reported_once_too(database, make, display):
    def fail():
        raise LedgerError("The disk is full.")

    def stop():
        control.request_stop(database, time.time())

    make(Steps(fail, fail, fail, fail, stop), lambda: 0).run()
    assert display.said == ["The disk is full. Retrying.", "The ledger is available again."]


class Machines:
    """A provider without machines."""

    def list(self):
        return []

    def terminate(self, instance_ids):
        pass

    def clear(self):
        return {}


def test_an_error_of_the_ledger_does_not_keep_machines_from_being_terminated(display):
    def terminate(now):
        raise LedgerError("The disk is full.")

    with pytest.raises(LedgerError, match="The disk is full"):
        terminate_all(
            JobMachines({0: Machines()}),
            terminate,
            display.say,
            clear=dict,
            pause=lambda _: None,
        )
    assert display.said == ["The disk is full. Terminating the machines that the provider lists."]


def test_an_outage_of_the_provider_is_reported_once_while_machines_are_terminated(display):
    answers = [UnreachableError(f"No answer ({number}).") for number in range(100)]

    def terminate(now):
        if answers:
            raise answers.pop(0)
        return 0

    terminate_all(JobMachines({0: Machines()}), terminate, display.say, clear=dict, pause=lambda _: None)
    assert display.said == ["No answer (0). Retrying.", "The provider is available again."]
