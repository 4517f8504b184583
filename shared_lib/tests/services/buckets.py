"""Buckets on this machine, for the real clients: S3 by moto, Cloud Storage by its emulator."""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager

#: The emulator has no module to run.
_GOOGLE = "import sys; from gcp_storage_emulator.__main__ import main; sys.exit(main())"
PATIENCE_SECONDS = 60


def s3():
    """Serve S3 without buckets in a ``with`` statement; yields the port on the loopback interface."""
    return _served("-m", "moto.server", "--host=127.0.0.1")


def google_storage(bucket):
    """Serve Cloud Storage with one bucket in a ``with`` statement; yields the port on the loopback interface."""
    return _served("-c", _GOOGLE, "start", "--host=127.0.0.1", "--in-memory", f"--default-bucket={bucket}")


@contextmanager
def _served(*command):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-W", "ignore", *command, f"--port={port}"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(server, port)
        yield port
    finally:
        server.kill()
        server.wait()


def _await(server, port):
    """Wait until a server answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert server.poll() is None, f"{server.args} ended with {server.poll()}"
        assert time.monotonic() < deadline, f"{server.args} did not start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
