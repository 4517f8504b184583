"""A TCP proxy before a service, on a port of the loopback interface: it can refuse connections, cut them, or pass nothing on."""

import socket
import threading
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Self


class Line(Enum):
    """The state of the network."""

    OPEN = auto()
    CUT = auto()
    """Connections are reset, new ones are refused."""
    SILENT = auto()
    """Connections stay, and nothing arrives, as when a firewall drops all packets."""


class Proxy:
    """For a ``with`` statement.

    Args:
        port: The port of the service.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._changed = threading.Condition()
        self._line = Line.OPEN
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._is_over = False
        self._accept()

    def set(self, line: Line) -> None:
        """Change the state of the network."""
        with self._changed:
            was, self._line = self._line, line
            if line is Line.CUT:
                _shut(self._listener)
                for pair in list(self._pairs):
                    _end(pair)
            elif was is Line.CUT:
                self._listener = socket.create_server(("127.0.0.1", self.port))
                self._accept()
            self._changed.notify_all()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close everything."""
        self._is_over = True
        self.set(Line.CUT)

    def _accept(self) -> None:
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client = listener.accept()[0]
                try:
                    service = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                    continue
                pair = client, service
                with self._changed:
                    self._pairs.add(pair)
                for source, target in (pair, (service, client)):
                    threading.Thread(target=self._pass_on, args=(source, target, pair), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                with self._changed:
                    self._changed.wait_for(lambda: self._line is not Line.SILENT)
                target.sendall(data)
        with self._changed:
            _end(pair)
            self._pairs.discard(pair)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def _end(pair: tuple[socket.socket, socket.socket]) -> None:
    for one in pair:
        _shut(one)
