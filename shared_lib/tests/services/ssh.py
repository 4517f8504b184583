"""Computers that are reached with ssh: real sshd, each with its own home directory; with root, also with its own network and processes.

Without root they are processes of this user on the loopback interface.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from taskfleet.processes.tree import descendants_of

#: Debian's place of daemons, which users may not have on their PATH.
SBIN = "/usr/sbin"
_SSHD = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {keys}/user.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
SetEnv HOME={home} UV_CACHE_DIR={uv_cache} HOST_OF_TEST={folder}
"""
_CONFIG = """\
Host {name}
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {keys}/user
  IdentitiesOnly yes
  UserKnownHostsFile {keys}/known_hosts
  GlobalKnownHostsFile none
"""
_NUMBERS = iter(range(1, 250))


@dataclass
class Host:
    """A computer."""

    name: str
    folder: Path
    address: str
    port: int
    process: subprocess.Popen | None = None
    link: str = ""
    command: tuple[str, ...] = ()

    @property
    def home(self) -> Path:
        """The user's home directory there."""
        return self.folder / "home"

    def start(self) -> None:
        """Start its sshd, and wait until it listens."""
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if self.link:
            self._connect()
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 5) as one:
                if one.recv(4) == b"SSH-":
                    return
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "sshd.log").read_text()
            time.sleep(0.05)

    def _connect(self) -> None:
        """Give it a network of its own, with a link to this computer."""
        deadline = time.monotonic() + 60
        while not (self.folder / "ready").exists():
            assert time.monotonic() < deadline, (self.folder / "sshd.log").read_text()
            time.sleep(0.02)
        inside = self._inside
        near, far = self.link, f"{self.link}h"
        here, there = self.address.rpartition(".")[0] + ".1", self.address
        ip("link", "add", near, "type", "veth", "peer", "name", far)
        ip("link", "set", far, "netns", str(inside))
        ip("addr", "add", f"{here}/24", "dev", near)
        ip("link", "set", near, "up")
        enter = ("nsenter", f"--net=/proc/{inside}/ns/net")
        subprocess.run([*enter, "ip", "addr", "add", f"{there}/24", "dev", far], check=True)
        subprocess.run([*enter, "ip", "link", "set", far, "up"], check=True)
        subprocess.run([*enter, "ip", "link", "set", "lo", "up"], check=True)
        (self.folder / "connected").touch()

    @property
    def _inside(self) -> int:
        """The first process in its own spaces."""
        return descendants_of(self.process.pid)[0]

    def run(self, *words: str) -> str:
        """Run a command there, if it has a network of its own."""
        enter = ("nsenter", f"--target={self._inside}", "--mount", "--pid", "--uts", "--net")
        return subprocess.run([*enter, *words], check=True, capture_output=True, text=True).stdout

    def set_link(self, state: str) -> None:
        """Take the link up or down."""
        ip("link", "set", self.link, state)

    def connections(self) -> list[int]:
        """Return the processes of sshd that serve connections."""
        found = []
        for pid in descendants_of(self.process.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sshd: "):
                    found.append(pid)
        return found

    def cut(self) -> None:
        """End all connections."""
        for pid in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End sshd and all connections; workers go on, and ``start`` lets users log in again."""
        self.process.send_signal(signal.SIGSTOP)
        self.cut()
        self.process.kill()
        self.process.wait(20)

    def processes(self) -> list[int]:
        """Return the processes of machines there."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                variables = path.read_bytes().split(b"\0")
                is_machine = any(one.startswith(b"TASKFLEET_MACHINE=") for one in variables)
                if is_machine and f"HOST_OF_TEST={self.folder}".encode() in variables:
                    found.append(int(path.parent.name))
        return found


@dataclass
class Hosts:
    """Some computers, and the user's configuration of ssh for them."""

    folder: Path
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """What SSH_OPTIONS has to be."""
        return "-F", str(self.folder / "config")

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def add(self, name: str, *, has_network: bool = False, home: Path | None = None) -> Host:
        """Start a computer.

        Args:
            name: Its name.
            has_network: Whether it has a network, processes and mounts of its own; requires root.
            home: The home directory, if it is that of another host.
        """
        folder = self.folder / name
        (folder / "home" / ".local" / "bin").mkdir(parents=True)
        (folder / "home" / ".local" / "bin" / "uv").symlink_to(shutil.which("uv") or "/nowhere")
        number = next(_NUMBERS)
        address, port = (f"10.199.{number}.2", 22) if has_network else ("127.0.0.1", _free_port())
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")], check=True)
        self._know(address, port, folder / "host_key.pub")
        values = {
            "name": name,
            "folder": folder,
            "home": home or folder / "home",
            "keys": self.folder,
            "address": address,
            "port": port,
            "user": subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip(),
            "uv_cache": os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv",
        }
        (folder / "sshd_config").write_text(_SSHD.format(**values))
        with (self.folder / "config").open("a") as file:
            file.write(_CONFIG.format(**values))
        words = (shutil.which("sshd", path=SBIN), "-D", "-e", "-f", str(folder / "sshd_config"))
        one = Host(name, folder, address, port, command=words)
        if has_network:
            one.link = f"tf{os.getpid() % 10**6}x{number}"
            script = (
                f"hostname {name}; touch {folder}/ready; while [ ! -e {folder}/connected ]; do sleep 0.05; done; "
                'exec "$@"'
            )
            spaces = ("--uts", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child")
            one.command = ("unshare", *spaces, "sh", "-c", script, "sh", *words)
        self.hosts[name] = one
        one.start()
        return one

    def _know(self, address: str, port: int, key: Path) -> None:
        name = address if port == 22 else f"[{address}]:{port}"
        with (self.folder / "known_hosts").open("a") as file:
            file.write(f"{name} {' '.join(key.read_text().split()[:2])}\n")

    def forget_keys(self) -> None:
        """Delete all host keys that the user knows."""
        (self.folder / "known_hosts").write_text("")

    def end(self) -> None:
        """End all computers with all that runs there."""
        for one in self.hosts.values():
            for pid in one.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            one.stop()


def ip(*words: str) -> None:
    """Run ip."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def hosts(folder: Path):
    """Make the user's key and configuration for computers that are added later, and end them."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # of Debian's sshd, for its separation of privileges
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "user")], check=True)
    made = Hosts(folder)
    try:
        yield made
    finally:
        made.end()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def missing() -> str:
    """Return what is missing; empty if nothing is missing."""
    lacking = [
        name
        for name in ("sshd", "ssh", "ssh-keygen")
        if shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}") is None
    ]
    return f"OpenSSH (Debian: openssh-server openssh-client; {', '.join(lacking)} not found)" if lacking else ""
