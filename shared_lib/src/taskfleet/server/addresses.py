"""The addresses of this computer that workers can reach."""

import socket
from collections.abc import Iterable

from taskfleet.errors import CommandError

#: How many hosts are looked up, so that a large cluster takes no longer than a small one.
_MAX_HOSTS = 64


def addresses_towards(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of this computer from which packets to these hosts would be sent; nothing is sent.

    Raises:
        CommandError: None of the hosts is known here.
    """
    names = sorted(set(hosts))
    found: dict[str, None] = {}
    for name in names[:: max(1, len(names) // _MAX_HOSTS)]:
        try:
            known = socket.getaddrinfo(name, 9, type=socket.SOCK_DGRAM)
        except OSError:
            continue
        for family, kind, protocol, _, address in known:
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.connect(address)
                    source = str(probe.getsockname()[0])
            except OSError:
                continue
            if not source.startswith("fe80"):  # of a link: useless without the name of an interface
                found[source] = None
    if not found:
        raise CommandError(
            f"The queue's server needs an address that workers can reach, and none of their hosts is known here "
            f"({', '.join(names[:5])}). Name an address of this computer with --listen."
        )
    return tuple(found)
