"""Ends processes on any host of a batch job when the process that started them ends or closes its lifeline, even if they hang.

The processes connect to the owner, and nothing is ever sent: the kernel closes the connections when the owner ends, however it does. At the
other end, the kernel then kills the process that is attached, which needs no thread for that. So ``python lifeline.py HOST:PORT COMMAND…``
attaches itself and becomes the command; the file is run by its path, and imports nothing of the library.
"""

import contextlib
import os
import socket
import sys
import threading

#: How long a process tries to reach the owner.
CONNECT_SECONDS = 60.0
#: The most processes of one owner.
MOST = 4096
_HERE = "127.0.0.1"
_END_SECONDS = 5.0


class Lifeline:
    """The owner's end.

    Args:
        spans_hosts: Whether processes on other hosts are to be attached.
    """

    def __init__(self, *, spans_hosts: bool) -> None:
        self._socket = socket.create_server(("" if spans_hosts else _HERE, 0), backlog=MOST)
        self._host = socket.gethostname() if spans_hosts else _HERE
        self._attached: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)  # systems let few connections wait for that
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # it is closed
                return
            self._attached.append(connection)

    @property
    def address(self) -> str:
        """What ``attach`` needs."""
        return f"{self._host}:{self._socket.getsockname()[1]}"

    def close(self) -> None:
        """End the processes that are attached."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the thread
        self._socket.close()
        self._thread.join(_END_SECONDS)
        for one in self._attached:
            one.close()


def connect(address: str) -> socket.socket:
    """Return a connection to a port of the process that launched this one; its address is the one that Slurm knows, if it is Slurm's.

    Raises:
        OSError: It does not answer.
    """
    host, _, port = address.rpartition(":")
    host = _HERE if host == socket.gethostname() else os.environ.get("SLURM_LAUNCH_NODE_IPADDR") or host
    return socket.create_connection((host, int(port)), CONNECT_SECONDS)


def attach(address: str) -> None:
    """Have this process killed when the owner ends, also after it has become another program.

    Raises:
        OSError: The owner does not answer.
    """
    if not sys.platform.startswith("linux"):
        return
    import fcntl

    fd = connect(address).detach()  # stays open as long as this process lives
    os.set_inheritable(fd, True)
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETSIG, 9)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    try:
        os.read(fd, 1)
    except BlockingIOError:
        return
    except OSError:
        pass
    os.kill(os.getpid(), 9)  # the owner ended before the kernel was asked to watch


if __name__ == "__main__":
    try:
        attach(sys.argv[1])
    except OSError as error:
        sys.exit(f"{sys.argv[1]}, which launched this process, does not answer: {error}")
    os.execvp(sys.argv[2], sys.argv[2:])
