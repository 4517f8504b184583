"""Messages between the supervisor and its slots."""

import os
import select
import socket
import threading

import pytest
from taskfleet.tasks import Finished, Lease
from taskfleet.worker.chunks import pack_chunk, receive_chunk
from taskfleet.worker.messages import Done, KillTask, Recall, Returned, Run, SetFlags, Started, pack, unpack
from taskfleet.worker.wire import Channel


@pytest.fixture
def ends():
    ours, theirs = map(Channel, socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


def exchange(ours, theirs, wanted):
    """Turn both loops until each has received so many messages."""
    received = [], []
    while [len(some) for some in received] != wanted:
        readable, writable, _ = select.select(
            [ours, theirs], [one for one in (ours, theirs) if one.wants_write], [], 10
        )
        assert readable or writable, "nothing moves any more"
        for one in writable:
            one.flush()
        for one, messages in zip((ours, theirs), received, strict=True):
            if one in readable:
                messages += one.receive()
    return received


def test_large_messages_in_both_directions_at_once_do_not_block_each_other(ends):
    ours, theirs = ends
    from_ours = [("run", "é" * (20 << 20)), ("recall",), ("run", [b"x" * (1 << 20)])]
    from_theirs = [("done", "a" * (30 << 20)), ("hello", 1), ("done", ["b" * 100] * 1000)]
    for one, other in zip(from_ours, from_theirs, strict=True):
        ours.send(one)
        theirs.send(other)
    assert ours.wants_write
    assert theirs.wants_write
    assert exchange(ours, theirs, [3, 3]) == (from_theirs, from_ours)
    assert not ours.wants_write


def test_plain_values_arrive_as_they_are(ends):
    ours, theirs = ends
    message = ("run", [(1, 2, "id", '{"a": 1}', None, 1.5, "\ud800", b"\x00")], {"k": (True,)})
    ours.send(message)
    ours.send(())
    assert theirs.receive() == [message, ()]
    assert theirs.receive() == []


def test_a_message_in_pieces_is_returned_when_it_is_complete():
    ours, theirs = socket.socketpair()
    channel, sender = Channel(theirs), Channel(ours)
    sender.send(("hello", 1))
    whole = theirs.recv(1000)
    for byte in whole[:-1]:
        ours.send(bytes([byte]))
        assert channel.receive() == []
    ours.send(whole[-1:])
    assert channel.receive() == [("hello", 1)]
    sender.close()
    channel.close()


def test_the_last_messages_are_returned_before_the_end(ends):
    ours, theirs = ends
    ours.send(("done", "x" * 100_000))
    ours.close()
    assert theirs.receive() == [("done", "x" * 100_000)]
    with pytest.raises(EOFError):
        theirs.receive()


def test_sending_to_an_end_that_is_gone_is_noticed_when_receiving(ends):
    ours, theirs = ends
    theirs.close()
    ours.send(("run", "x" * (1 << 20)))
    ours.send(("run", 1))
    assert not ours.wants_write
    with pytest.raises(EOFError):
        ours.receive()


def test_the_exit_of_a_process_is_noticed_without_a_message(ends):
    ours, theirs = ends
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    theirs.close()
    os.waitpid(pid, 0)
    with pytest.raises(EOFError):
        ours.receive()


def named_values(kind):
    """A value for each field that no other has, so that none can be taken for another."""
    return kind(*(f"{kind.__name__}.{name}" for name in kind._fields))


@pytest.mark.parametrize(
    "message",
    [
        Run(leases=[named_values(Lease), named_values(Lease)._replace(seq=2)]),
        Recall(),
        KillTask(lifetime_seconds=60.0),
        SetFlags(flags=3),
        Started(pid=17),
        Done(finished=[named_values(Finished)], interrupted=[(1, 2)]),
        Returned(keys=[(1, 2), (3, 4)]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_each_message_arrives_with_its_fields_named(ends, message):
    ours, theirs = ends
    ours.send(pack(message))
    [received] = map(unpack, theirs.receive())
    assert received == message
    for items in (getattr(received, "leases", []), getattr(received, "finished", [])):
        assert all(type(one) in (Lease, Finished) for one in items)


def test_an_unknown_message_is_rejected():
    with pytest.raises(ValueError, match="'resume'"):
        unpack(("resume", 1))


def test_a_chunk_of_leases_arrives_unchanged_in_any_pieces():
    ours, theirs = socket.socketpair()
    leases = [Lease(seq=n, attempt=1, task_id=f"t{n}", data="é" * n) for n in range(100)]
    body = pack_chunk(leases) + pack_chunk([])
    sender = threading.Thread(target=lambda: [ours.sendall(body[at : at + 7]) for at in range(0, len(body), 7)])
    sender.start()
    received = receive_chunk(theirs)
    assert received == leases
    assert {type(one) for one in received} == {Lease}
    assert receive_chunk(theirs) == []
    sender.join()
    ours.sendall(body[:-20])
    ours.close()
    assert receive_chunk(theirs) is None  # cut off
    theirs.close()
