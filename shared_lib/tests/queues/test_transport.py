"""What every service has to do as a transport; see ``conftest.py`` for how a service joins."""

import json
import threading
import time
from collections import Counter

import pytest
from taskfleet.errors import QueueError, UnreachableError
from taskfleet.queues.transport import Outgoing

LEASE = 300
"""Seconds; longer than any test, so that leases end only when a test ends them."""


def bodies(number):
    return [json.dumps({"number": n}) for n in range(number)]


def take(transport, number, *, lease_seconds=LEASE):
    """Receive until so many have come; fails after half a minute."""
    messages, deadline = [], time.monotonic() + 30
    while len(messages) < number:
        assert time.monotonic() < deadline, f"only {len(messages)} of {number} messages have come"
        messages += transport.receive(number - len(messages), wait_seconds=1, lease_seconds=lease_seconds)
    return messages


def is_empty(transport):
    return not transport.receive(10, wait_seconds=0.5, lease_seconds=LEASE)


def receipts(messages):
    return [message.receipt for message in messages]


@pytest.fixture
def transport(service, name, opened):
    transport = opened(service, name)
    transport.create(tags={"job": "test"})
    yield transport
    transport.delete()


@pytest.fixture
def other(service, name, opened, transport):
    """A second receiver of the same queue."""
    return opened(service, name)


class TestQueues:
    def test_a_queue_is_made_once_and_deleted_once(self, service, name, opened):
        transport = opened(service, name)
        assert not transport.exists()
        transport.create(tags={"job": "a"})
        transport.send([Outgoing("1")])
        transport.create(tags={"job": "a"})
        assert transport.exists()
        assert [message.body for message in take(transport, 1)] == ["1"]
        transport.delete()
        assert not transport.exists()
        transport.delete()

    def test_a_queue_that_is_gone_is_an_error_of_every_verb(self, service, transport):
        transport.send([Outgoing("1")])
        [message] = take(transport, 1)
        transport.delete()
        for verb in (
            lambda: transport.send([Outgoing("2")]),
            lambda: transport.receive(1, wait_seconds=0, lease_seconds=LEASE),
            transport.size,
            transport.purge,
            lambda: transport.extend([message.receipt], LEASE),
            lambda: transport.acknowledge([message.receipt]),
        ):
            with pytest.raises(QueueError) as error:
                verb()
            assert not isinstance(error.value, UnreachableError)

    def test_a_queue_has_its_own_messages_only(self, service, name, opened, transport):
        second = opened(service, f"{name}-b")
        second.create(tags={})
        try:
            transport.send([Outgoing("1")])
            assert is_empty(second)
            second.purge()
            assert [message.body for message in take(transport, 1)] == ["1"]
        finally:
            second.delete()

    def test_purging_drops_everything_ready(self, service, transport):
        transport.send([Outgoing(body) for body in bodies(25)])
        transport.purge()
        assert is_empty(transport)
        if transport.purge_seconds:
            service.advance(transport.purge_seconds)
        transport.send([Outgoing("new")])
        assert [message.body for message in take(transport, 1)] == ["new"]

    def test_the_size_is_what_the_service_reports(self, transport):
        delay = min(100.0, transport.longest_delay_seconds)
        transport.send([Outgoing("1")] * 5 + [Outgoing("2", delay)] * (3 if delay else 0))
        held = take(transport, 2)
        size = transport.size()
        assert size.is_exact == transport.counts_exactly
        expected = (3, 2, 3 if delay else 0)
        if transport.counts_exactly:
            assert (size.ready, size.leased, size.delayed) == expected
            transport.acknowledge(receipts(held[:1]))
            transport.extend(receipts(held[1:]), 0)
            assert (transport.size().ready, transport.size().leased) == (4, 0)
        else:
            said = zip((size.ready, size.leased, size.delayed), expected, strict=True)
            assert all(number is None or number >= 0 for number, _ in said)


class TestMessages:
    @pytest.mark.parametrize("number", [0, 1, 11, 2500])
    def test_all_that_is_sent_is_received(self, transport, number):
        transport.send([Outgoing(body) for body in bodies(number)])
        seen, deadline = Counter(), time.monotonic() + 60
        while len(seen) < number and time.monotonic() < deadline:
            messages = transport.receive(1000, wait_seconds=1, lease_seconds=LEASE)
            seen.update(message.body for message in messages)
            transport.acknowledge(receipts(messages))
        assert set(seen) == set(bodies(number))
        assert is_empty(transport)

    @pytest.mark.parametrize(
        "body",
        [
            "null",
            '""',
            "{}",
            " [1,\t2,\r\n 3.5e-7] ",
            '"\\u0000\\ud800 \\" \\\\ \'"',
            '"ä€😀\u2028\u00ad\ufffd e\u0301"',
            '{"$": "%s %(a)s {0} --; DROP TABLE x; /* &lt;&amp; ]]> */"}',
            json.dumps("long " * 10_000),
        ],
    )
    def test_a_body_arrives_as_it_was_sent(self, transport, body):
        transport.send([Outgoing(body)])
        assert [message.body for message in take(transport, 1)] == [body]

    def test_the_largest_message_passes_and_a_larger_one_is_refused(self, transport):
        most = transport.most_message_bytes
        transport.send([Outgoing("é" * (most // 2)), Outgoing("1")])
        messages = take(transport, 2)
        assert sorted(len(message.body.encode()) for message in messages) == [1, most // 2 * 2]
        transport.acknowledge(receipts(messages))
        with pytest.raises(QueueError) as error:
            transport.send([Outgoing("1")] * 15 + [Outgoing("é" * (most // 2) + "éé")])
        assert not isinstance(error.value, UnreachableError)
        assert len(str(error.value)) < 1000
        assert is_empty(transport)

    def test_a_delay_that_is_too_long_is_refused(self, transport):
        if transport.longest_delay_seconds == float("inf"):
            pytest.skip("the service takes any delay")
        with pytest.raises(QueueError):
            transport.send([Outgoing("1"), Outgoing("2", transport.longest_delay_seconds + 1)])
        assert is_empty(transport)

    def test_a_delayed_message_comes_when_it_is_due(self, service, transport):
        if transport.longest_delay_seconds < 100:
            pytest.skip("the service does not delay messages")
        transport.send([Outgoing("later", 100), Outgoing("now")])
        assert [message.body for message in take(transport, 1)] == ["now"]
        assert is_empty(transport)
        service.advance(101)
        assert [message.body for message in take(transport, 1)] == ["later"]

    @pytest.mark.parametrize("most", [1, 3, 10, 25])
    def test_no_more_than_asked_for_are_received(self, transport, most):
        transport.send([Outgoing(body) for body in bodies(40)])
        received = transport.receive(most, wait_seconds=5, lease_seconds=LEASE)
        assert 1 <= len(received) <= most
        take(transport, 40 - len(received))

    def test_nothing_asked_for_is_nothing_received(self, transport):
        transport.send([Outgoing("1")])
        assert transport.receive(0, wait_seconds=0, lease_seconds=LEASE) == []
        take(transport, 1)


class TestWaiting:
    def test_an_empty_queue_is_waited_for_as_long_as_asked(self, transport):
        began = time.monotonic()
        assert transport.receive(1, wait_seconds=0, lease_seconds=LEASE) == []
        assert transport.receive(1, wait_seconds=2, lease_seconds=LEASE) == []
        assert 1.5 < time.monotonic() - began < 20

    def test_a_late_message_ends_the_wait(self, other, transport):
        timer = threading.Timer(1.0, other.send, [[Outgoing("late")]])
        began = time.monotonic()
        timer.start()
        [message] = transport.receive(5, wait_seconds=60, lease_seconds=LEASE)
        timer.join()
        assert message.body == "late"
        assert 0.5 < time.monotonic() - began < 30

    def test_waiting_costs_hardly_any_work(self, transport):
        began = time.process_time()
        assert transport.receive(1, wait_seconds=3, lease_seconds=LEASE) == []
        assert time.process_time() - began < 0.6


class TestLeases:
    def test_a_leased_message_is_not_delivered_to_others(self, transport, other):
        transport.send([Outgoing("1")])
        take(transport, 1)
        assert is_empty(transport)
        assert is_empty(other)

    def test_a_message_is_back_when_its_lease_has_ended(self, service, transport, other):
        transport.send([Outgoing("1")])
        [first] = take(transport, 1)
        service.advance(LEASE + 1)
        [second] = take(other, 1)
        assert second.body == "1"
        assert second.receipt != first.receipt
        assert (first.deliveries, second.deliveries) in [(1, 2), (0, 0)]

    def test_an_extended_lease_ends_later(self, service, transport, other):
        transport.send([Outgoing("1")])
        [message] = take(transport, 1, lease_seconds=30)
        assert transport.extend([message.receipt], LEASE) == set()
        service.advance(60)
        assert is_empty(other)
        service.advance(LEASE)
        take(other, 1)

    def test_a_message_given_back_is_available_at_once(self, transport, other):
        transport.send([Outgoing(body) for body in bodies(25)])
        messages = take(transport, 25)
        assert transport.extend(receipts(messages), 0) == set()
        assert {message.body for message in take(other, 25)} == set(bodies(25))

    def test_extending_nothing_does_nothing(self, transport):
        assert transport.extend([], LEASE) == set()
        transport.acknowledge([])

    def test_a_lease_that_was_lost_is_reported(self, service, transport, other):
        transport.send([Outgoing("1"), Outgoing("2")])
        lost = take(transport, 2)
        service.advance(LEASE + 1)
        [again] = take(other, 1)
        [former] = [message.receipt for message in lost if message.body == again.body]
        told = transport.extend([former], LEASE)
        assert told == {former} if transport.knows_lost_leases else told <= {former}

    def test_the_receipt_of_a_deleted_message_is_reported(self, transport):
        transport.send([Outgoing("1"), Outgoing("2")])
        gone, kept = receipts(take(transport, 2))
        transport.acknowledge([gone])
        told = transport.extend([gone, kept], LEASE)
        assert told == {gone} if transport.knows_lost_leases else told <= {gone}

    def test_a_stale_receipt_leaves_the_new_holder_alone(self, service, transport, other):
        if not transport.fences_receipts:
            pytest.skip("the service lets a stale receipt have an effect")
        transport.send([Outgoing("1")])
        [stale] = take(transport, 1)
        service.advance(LEASE + 1)
        [held] = take(other, 1)
        transport.acknowledge([stale.receipt])
        assert transport.extend([stale.receipt], 0) == {stale.receipt}
        assert is_empty(transport)
        assert other.extend([held.receipt], 0) == set()
        [third] = take(transport, 1)
        assert third.body == "1"


class TestAcknowledging:
    def test_an_acknowledged_message_is_never_delivered_again(self, service, transport):
        transport.send([Outgoing(body) for body in bodies(15)])
        messages = take(transport, 15)
        transport.acknowledge(receipts(messages[:12]))
        transport.acknowledge(receipts(messages[:12]))  # again, harmlessly
        service.advance(LEASE + 1)
        assert {message.body for message in take(transport, 3)} == {message.body for message in messages[12:]}
        assert is_empty(transport)


class TestSeveralReceivers:
    def test_no_message_is_held_by_two(self, service, name, opened, transport):
        transport.send([Outgoing(body) for body in bodies(400)])
        received, failures = [], []

        def receive(mine):
            try:
                while messages := mine.receive(7, wait_seconds=1, lease_seconds=LEASE):
                    received.extend(message.body for message in messages)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=receive, args=[opened(service, name)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert Counter(received) == Counter(bodies(400))

    def test_four_processes_drop_each_message_once(self, service, name, children, transport):
        workers = [children(service, name, "work", most=10, wait_seconds=2) for _ in range(4)]
        assert [json.loads(worker.stdout.readline()) for worker in workers] == ["ready"] * 4
        transport.send([Outgoing(body) for body in bodies(1000)])
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        dropped = [json.loads(worker.stdout.readline()) for worker in workers]
        assert Counter(body for part in dropped for body in part) == Counter(bodies(1000))
        service.advance(LEASE + 1)
        assert is_empty(transport)

    def test_messages_of_a_killed_process_are_available_after_their_lease(self, service, name, children, transport):
        transport.send([Outgoing(body) for body in bodies(20)])
        holder = children(service, name, "hold", most=20)
        assert sorted(json.loads(holder.stdout.readline())) == sorted(bodies(20))
        holder.kill()
        holder.wait()
        assert is_empty(transport)
        service.advance(LEASE + 1)
        assert {message.body for message in take(transport, 20)} == set(bodies(20))


class TestOutages:
    def test_a_service_that_does_not_answer_is_an_error_until_it_does(self, service, name, opened, transport):
        if not hasattr(service, "pause"):
            pytest.skip("the service cannot be stopped for a while")
        transport.send([Outgoing("before")])
        impatient = opened(service, name, patience_seconds=2.0)
        impatient.exists()
        service.pause()
        try:
            for verb in (
                lambda: impatient.receive(1, wait_seconds=0, lease_seconds=LEASE),
                impatient.size,
                lambda: impatient.send([Outgoing("during")]),
                lambda: opened(service, name, patience_seconds=2.0).exists(),
            ):
                began = time.monotonic()
                with pytest.raises(UnreachableError):
                    verb()
                assert time.monotonic() - began < 20
        finally:
            service.resume()
        assert impatient.exists()
        # Requests that had already left may be done now, so "during" may have come.
        seen, deadline = set(), time.monotonic() + 30
        service.advance(LEASE + 1)
        while "before" not in seen and time.monotonic() < deadline:
            seen |= {message.body for message in transport.receive(5, wait_seconds=1, lease_seconds=1)}
        assert "before" in seen
        assert seen <= {"before", "during"}

    def test_a_short_outage_is_sat_out(self, service, transport):
        if not hasattr(service, "pause"):
            pytest.skip("the service cannot be stopped for a while")
        service.pause()
        timer = threading.Timer(2.0, service.resume)
        timer.start()
        try:
            transport.send([Outgoing("1")])
        finally:
            timer.join()
        assert take(transport, 1)[0].body == "1"
