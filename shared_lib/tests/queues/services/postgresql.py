"""Debian's PostgreSQL, in a temporary folder, on a socket there and on a port of the loopback interface."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from taskfleet.queues.postgresql import PostgresqlTransport

USER = "owner"


class PostgresqlService:
    """A server with a superuser and a database; whatever ends the tests ends it."""

    def __init__(self) -> None:
        self.password = secrets.token_hex(12)
        self.folder = Path()
        self.database = "tasks"
        self.port = 0
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the server and start it.

        Raises:
            FileNotFoundError: PostgreSQL is not installed.
        """
        self._initdb, self._postgres = (binary(name) for name in ("initdb", "postgres"))
        self.folder = Path(tempfile.mkdtemp(prefix="taskfleet-pg-"))
        try:
            if os.geteuid() == 0:
                shutil.chown(self.folder, "postgres")
            self.port = free_port()
            secret = self.folder / "password"
            secret.write_text(self.password)
            secret.chmod(0o644)
            options = ["--auth=scram-sha-256", "--username", USER, "--pwfile", secret, "--encoding=UTF8", "--locale=C"]
            command = [*as_user(), self._initdb, "--pgdata", self.data, *options, "--no-instructions"]
            subprocess.run(command, check=True, capture_output=True, cwd=self.folder)
            self.boot()
            with psycopg.connect(self.url(database="postgres"), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {self.database}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and delete all it has."""
        if self._server is not None:
            self.resume()
            self.halt(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def queue_url(self, name: str) -> str:
        """Give the QUEUE_URL of a job of this name."""
        return self.url()

    def transport(self, name: str, **options: object) -> PostgresqlTransport:
        """Open a queue of this name."""
        return PostgresqlTransport(self.url(), name, **options)

    def advance(self, seconds: float) -> None:
        """Have all leases and delays run out by so much."""
        with self.connect() as connection:
            connection.execute(
                "UPDATE taskfleet_messages SET ready_at = ready_at - make_interval(secs => %s)", (seconds,)
            )

    def environment(self) -> dict[str, str]:
        """Give what a child needs to reach the server: nothing, all is in the address."""
        return {}

    def pause(self) -> None:
        """Have the server be there, but not answer."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Have it answer again."""
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # --- for the tests of PostgreSQL itself ---

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, *, user: str = USER, password: str | None = None, database: str = "", host: str = "") -> str:
        """Give the address, by the socket unless a host is given."""
        place = f"{host}:{self.port}" if host else ""
        query = "" if host else f"?host={self.folder}&port={self.port}"
        return f"postgresql://{user}:{password or self.password}@{place}/{database or self.database}{query}"

    def connect(self, **parts: str) -> psycopg.Connection:
        return psycopg.connect(self.url(**parts), autocommit=True)

    def boot(self, *options: str) -> None:
        """Start what ``start`` has made, and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "max_connections": 60,
        }
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        with open(self.folder / "log", "ab") as log:
            self._server = subprocess.Popen(
                [*as_user(), self._postgres, "-D", self.data, *arguments, *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url(database="postgres"), connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL does not start:\n{self.log()[-2000:]}") from None
                time.sleep(0.05)

    def halt(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server with a signal (SIGINT: an orderly end; SIGKILL: with all its processes)."""
        assert self._server is not None
        for pid in self._processes() if how == signal.SIGKILL else [self._server.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        try:
            self._server.wait(60)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._server = None

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _processes(self) -> list[int]:
        """Give the server's process and its children, which are in sessions of their own.

        The kernel's own list of children leaves some out while others come and go.
        """
        if self._server is None:
            return []
        pid = self._server.pid
        return [pid, *(int(entry.name) for entry in Path("/proc").glob("[0-9]*") if parent_of(entry) == pid)]


def binary(name: str) -> Path:
    """Find a program of the newest PostgreSQL that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return found[-1]


def as_user() -> list[str]:
    """Give what has a command run as somebody else than root, which PostgreSQL refuses, and die with this process."""
    if shutil.which("setpriv") is None:
        raise FileNotFoundError("setpriv is not installed (Debian: apt-get install util-linux)")
    command = ["setpriv", "--pdeathsig", "QUIT"]
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        command += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*command, "--"]


def parent_of(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
