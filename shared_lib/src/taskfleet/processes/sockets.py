"""Handing a socket to another process: to one that is being started, or through a channel to one that runs."""

import os
import socket
import struct
import sys
from typing import Any

_LENGTH = struct.Struct("<I")


def send_socket(channel: socket.socket, passed: socket.socket, pid: int) -> None:
    """Hand a socket to the process ``pid`` at the other end of a channel."""
    if sys.platform == "win32":
        share = passed.share(pid)
        channel.sendall(_LENGTH.pack(len(share)) + share)
    else:
        socket.send_fds(channel, [b"s"], [passed.fileno()])


def receive_socket(channel: socket.socket) -> socket.socket | None:
    """Take a socket from a channel on which one is waiting; None at its end."""
    if sys.platform == "win32":
        header = channel.recv(_LENGTH.size, socket.MSG_WAITALL)
        if len(header) != _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(header)
        return socket.fromshare(channel.recv(length, socket.MSG_WAITALL))
    try:
        message, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    except ConnectionResetError:  # the other side was killed before it had read everything
        return None
    return socket.socket(fileno=descriptors[0]) if message else None


def start_arguments(theirs: socket.socket) -> tuple[str, list[int]]:
    """Return what a program that is started gets on its command line, and in ``pass_fds``, to find a socket of its own."""
    return ("-", []) if sys.platform == "win32" else (str(theirs.fileno()), [theirs.fileno()])


def start_values(theirs: socket.socket, pid: int) -> dict[str, str]:
    """Return what it gets on its standard input besides, now that its process id is known."""
    if sys.platform == "win32":
        return {"control": theirs.share(pid).hex()}
    return {}


def receive_start(argument: str, values: dict[str, Any]) -> socket.socket:
    """Take the socket in the program that was started so."""
    if sys.platform == "win32":
        return socket.fromshare(bytes.fromhex(values["control"]))
    sock = socket.socket(fileno=int(argument))
    os.set_inheritable(sock.fileno(), False)
    return sock
