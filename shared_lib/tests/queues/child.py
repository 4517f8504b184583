"""A receiver in a process of its own; what it does comes as JSON, what it has done goes out as JSON, a line each."""

import json
import pickle
import sys
import time

from conftest import service_class
from taskfleet.queues.transport import Outgoing


def say(thing):
    print(json.dumps(thing), flush=True)


def hold(transport, wanted):
    """Take messages and never give them back."""
    say([message.body for message in take(transport, wanted["most"])])
    sys.stdin.read()


def create(transport, wanted):
    """Make the queue at the same time as others."""
    say("ready")
    sys.stdin.readline()
    transport.create(tags={})
    transport.send([Outgoing(wanted["body"])])
    say("done")


def work(transport, wanted):
    """Take and drop messages until none has come for a while; say what was dropped."""
    say("ready")
    sys.stdin.readline()
    dropped = []
    while messages := transport.receive(wanted["most"], wait_seconds=wanted["wait_seconds"], lease_seconds=300):
        transport.acknowledge([message.receipt for message in messages])
        dropped += [message.body for message in messages]
    say(dropped)


def take(transport, most):
    messages, deadline = [], time.monotonic() + 30
    while len(messages) < most and time.monotonic() < deadline:
        messages += transport.receive(most - len(messages), wait_seconds=1, lease_seconds=300)
    return messages


if __name__ == "__main__":
    wanted = json.loads(sys.argv[1])
    kind = service_class(wanted["service"])
    service = kind.__new__(kind)
    vars(service).update(pickle.loads(bytes.fromhex(wanted["attributes"])))
    transport = service.transport(wanted["name"])
    {"create": create, "hold": hold, "work": work}[wanted["what"]](transport, wanted)
    transport.close()
