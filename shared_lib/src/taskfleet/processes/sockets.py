"""Pass a socket to another process, at its start or through a channel."""

import os
import socket
import struct
import sys
from typing import Any

_LENGTH = struct.Struct("<I")


def send_socket(channel: socket.socket, passed: socket.socket, pid: int) -> None:
    """Pass a socket to the process ``pid`` at the other end of a channel."""
    if sys.platform == "win32":
        share = passed.share(pid)
        channel.sendall(_LENGTH.pack(len(share)) + share)
    else:
        socket.send_fds(channel, [b"s"], [passed.fileno()])


def receive_socket(channel: socket.socket) -> socket.socket | None:
    """Receive a socket from a channel on which one has arrived; return None at its end."""
    if sys.platform == "win32":
        header = channel.recv(_LENGTH.size, socket.MSG_WAITALL)
        if len(header) != _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(header)
        return socket.fromshare(channel.recv(length, socket.MSG_WAITALL))
    try:
        message, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    except ConnectionResetError:  # the other process was killed before it had read everything
        return None
    return socket.socket(fileno=descriptors[0]) if message else None


def start_arguments(theirs: socket.socket) -> tuple[str, list[int]]:
    """Return the command line argument and the ``pass_fds`` by which a new program finds its socket."""
    return ("-", []) if sys.platform == "win32" else (str(theirs.fileno()), [theirs.fileno()])


def start_values(theirs: socket.socket, pid: int) -> dict[str, str]:
    """Return additional values for its standard input, once its process id is known."""
    if sys.platform == "win32":
        return {"control": theirs.share(pid).hex()}
    return {}


def receive_start(argument: str, values: dict[str, Any]) -> socket.socket:
    """Return the passed socket in the new program."""
    if sys.platform == "win32":
        return socket.fromshare(bytes.fromhex(values["control"]))
    sock = socket.socket(fileno=int(argument))
    os.set_inheritable(sock.fileno(), False)
    return sock
