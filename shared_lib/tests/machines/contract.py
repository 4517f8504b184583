"""The contract of all providers of machines; the tests of a provider are a subclass with the fixture ``cloud``."""

import time

import pytest
from taskfleet.machine_terms import Market
from taskfleet.machines import LaunchRequest, MachineState

PATIENCE_SECONDS = 60.0


def until(condition, what, seconds=PATIENCE_SECONDS):
    """Wait for a condition; return its first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.05)
    return value


class Contract:
    """The methods of ``Machines``, called repeatedly, too late, or without effect.

    The fixture ``cloud`` gives an object with:

    ``machines``: what is tested; ``others``: the same for another job at the same place;
    ``offers``: the offers of an order, all to be had; ``dry``: an offer that is not, or None where there is always room;
    ``says(instance_id)``: something the machine prints while it runs; ``can_queue``: whether machines may wait in a queue.
    """

    def order(self, cloud, token="job-1-abc", *, number=2, lifetime_seconds=3600.0, offers=None):
        return LaunchRequest(
            token=token, number=number, offers=offers or cloud.offers, lifetime_seconds=lifetime_seconds
        )

    def states(self, machines):
        return {one.instance_id: one.state for one in machines.list()}

    def there(self, machines):
        return {one.instance_id for one in machines.list() if one.state is not MachineState.ENDED}

    def end(self, machines):
        def gone():
            left = self.there(machines)
            machines.terminate(sorted(left))
            return not left

        until(gone, "the end of all machines")

    def test_what_is_ordered_is_there_under_the_order_s_name(self, cloud):
        order = self.order(cloud)
        before = time.time()
        answer = cloud.machines.launch(order)
        assert answer.failures == ()
        assert len({one.instance_id for one in answer.launched}) == 2
        until(lambda: len(self.there(cloud.machines)) == 2, "both machines in the list")
        listed = {one.instance_id: one for one in cloud.machines.list()}
        assert listed.keys() == {one.instance_id for one in answer.launched}
        for one in answer.launched:
            machine = listed[one.instance_id]
            assert machine.request_token == order.token
            assert (machine.instance_type, machine.zone) == (one.instance_type, one.zone)
            assert (one.instance_type, one.zone) in {(offer.instance_type, offer.zone) for offer in order.offers}
            assert machine.market is order.offers[0].market
            assert before - 60 < machine.created_at < time.time() + 60
        self.end(cloud.machines)

    def test_what_is_queued_does_not_run_and_what_runs_says_since_when_if_it_may_have_been(self, cloud):
        before = time.time()
        launched = cloud.machines.launch(self.order(cloud)).launched
        assert cloud.can_queue or not any(one.is_queued for one in launched)
        until(lambda: len(self.there(cloud.machines)) == 2, "both machines in the list")
        for machine in cloud.machines.list():
            if machine.state is MachineState.QUEUED or not cloud.can_queue:
                assert machine.running_since is None
                assert cloud.can_queue or machine.state is not MachineState.QUEUED
            else:
                assert before - 60 < machine.running_since < time.time() + 60
        self.end(cloud.machines)

    def test_an_order_that_is_given_twice_is_carried_out_once(self, cloud):
        first = cloud.machines.launch(self.order(cloud))
        again = cloud.machines.launch(self.order(cloud))
        assert {one.instance_id for one in again.launched} <= {one.instance_id for one in first.launched}
        until(lambda: len(self.there(cloud.machines)) == 2, "both machines in the list")
        time.sleep(0.5)
        assert len(self.there(cloud.machines)) == 2
        self.end(cloud.machines)

    def test_an_order_that_was_carried_out_long_ago_does_not_start_anything_again(self, cloud):
        cloud.machines.launch(self.order(cloud, number=1))
        until(lambda: self.there(cloud.machines), "the machine")
        self.end(cloud.machines)
        cloud.machines.launch(self.order(cloud, number=1))
        time.sleep(0.5)
        assert self.there(cloud.machines) == set()

    def test_a_machine_that_is_ended_is_gone_and_the_other_is_not(self, cloud):
        one, other = (each.instance_id for each in cloud.machines.launch(self.order(cloud)).launched)
        until(lambda: len(self.there(cloud.machines)) == 2, "both machines in the list")
        cloud.machines.terminate([one])
        until(lambda: self.there(cloud.machines) == {other}, "the end of one")
        waiting = (MachineState.QUEUED,) if cloud.can_queue else ()
        assert self.states(cloud.machines)[other] in (*waiting, MachineState.STARTING, MachineState.RUNNING)
        cloud.machines.terminate([one])
        cloud.machines.terminate([one, other])
        until(lambda: not self.there(cloud.machines), "the end of the other")
        cloud.machines.terminate([])

    def test_a_name_that_means_nothing_is_left_alone(self, cloud):
        cloud.machines.terminate([cloud.no_such_name])
        assert cloud.machines.console(cloud.no_such_name) is None

    def test_nothing_of_another_job_is_seen_or_touched(self, cloud):
        [mine] = cloud.machines.launch(self.order(cloud, number=1)).launched
        [theirs] = cloud.others.launch(self.order(cloud, "other-1-abc", number=1)).launched
        until(lambda: self.there(cloud.machines) and self.there(cloud.others), "both")
        assert self.there(cloud.machines) == {mine.instance_id}
        cloud.machines.terminate([mine.instance_id, theirs.instance_id])
        until(lambda: not self.there(cloud.machines), "the end of mine")
        cloud.machines.clear()
        assert self.there(cloud.others) == {theirs.instance_id}
        self.end(cloud.others)

    def test_what_a_machine_prints_can_be_read(self, cloud):
        [one] = cloud.machines.launch(self.order(cloud, number=1)).launched
        words = cloud.says(one.instance_id)
        assert cloud.machines.console(one.instance_id) is not None
        until(lambda: words in cloud.machines.console(one.instance_id), "its words")
        self.end(cloud.machines)

    def test_when_all_is_cleared_nothing_is_left(self, cloud):
        cloud.machines.launch(self.order(cloud))
        until(lambda: len(self.there(cloud.machines)) == 2, "both machines in the list")
        self.end(cloud.machines)
        until(lambda: not any(cloud.machines.clear().values()), "an end of what is left")
        assert not any(cloud.machines.clear().values())

    def test_what_is_not_to_be_had_is_rejected_with_a_reason(self, cloud):
        if cloud.dry is None:
            pytest.skip("this provider has room for whatever is asked for")
        answer = cloud.machines.launch(self.order(cloud, number=2, offers=(cloud.dry,)))
        assert answer.launched == ()
        assert {(one.instance_type, one.zone) for one in answer.failures} == {(cloud.dry.instance_type, cloud.dry.zone)}
        assert all(one.text for one in answer.failures)
        time.sleep(0.5)
        assert self.there(cloud.machines) == set()


def offer(instance_type, zone, market=Market.ON_DEMAND, usd=0.0, slots=1, **more):
    """Return an offer."""
    from taskfleet.machines.choosing import Offer

    values = {
        "usd_per_slot_hour": usd / slots,
        "cpu_rank": 0,
        "instance_type": instance_type,
        "market": market,
        "zone": zone,
        "usd_per_hour": usd,
        "machine_usd_per_hour": usd,
        "slots": slots,
        "boot_disk_type": "",
        "boot_disk_gib": 20.0,
        "cpus": slots,
        "memory_gib": 4.0,
    }
    return Offer(**{**values, **more})
