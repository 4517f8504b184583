"""Machines without a cloud: namespaces on this one, each with a disk, a network, processes and a metadata service of its own.

They boot in a tenth of a second, die whole when their power is cut, and reach what listens on this machine's loopback interface where
``publish`` says. It takes root. Names begin with ``tf`` and this process's id; what a process has left that was killed is removed by the
next one.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from shared_lib.tests.services.metadata import Metadata

#: Where Debian has what only root has use for; not everybody's path leads there.
os.environ["PATH"] += os.pathsep + os.pathsep.join(("/usr/sbin", "/sbin"))
NEEDED = ("ip", "unshare", "setpriv", "chroot", "mount", "setsid", "curl", "tar", "uv")
METADATA_ADDRESS = "169.254.169.254"
_NUMBERS = count(1)
#: In the environment of everything on a machine: whose it is.
MARK = "TASKFLEET_TEST_HOST"
HERE = Path(__file__).parent


def missing():
    """Say what this system lacks; None if nothing."""
    if os.geteuid() != 0:
        return "machines are made of namespaces, which takes root: sudo -E env PATH=$PATH uv run pytest tests/machines"
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking:
        return f"install {' '.join(lacking)} (Debian: iproute2 util-linux curl)"
    done = subprocess.run(
        ["unshare", "--net", "--mount", "ip", "link", "add", "tfb", "type", "bridge"], capture_output=True, text=True
    )
    return f"no bridge can be made here: {done.stderr.strip()}" if done.returncode else None


def ip(*words, check=True):
    """Run ``ip``."""
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, timeout=30)
    assert not check or done.returncode == 0, f"ip {' '.join(map(str, words))}: {done.stderr}"
    return done.stdout


class Instance:
    """One machine."""

    def __init__(self, instance_id, process, console, metadata, namespace):
        self.instance_id = instance_id
        self.metadata = metadata
        """Its metadata service, by which it is told that it is taken away."""
        self.launched_at = time.time()
        self._process = process
        self._console = console
        self._namespace = namespace

    def console(self):
        """Give all it has printed."""
        return self._console.read_text(errors="replace")

    @property
    def is_alive(self):
        """Whether its power is on."""
        return self._process.poll() is None

    @property
    def pid(self):
        """The id that its pid 1 has here; None if it has ended or not begun."""
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            return int(children[0]) if children else None
        return None

    def kill(self):
        """Cut its power."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.is_alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            self._process.kill()  # --kill-child
        self._process.wait()

    def wait(self, seconds):
        """Wait until its power is off."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the machine is on after {seconds:g} s; it said:\n{self.console()}") from None

    def run(self, *command):
        """Run something on it, and give what it prints."""
        words = ["nsenter", "-t", self.pid, "--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd=/", *command]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def clear(self):
        """Leave nothing of it but its console."""
        self.kill()
        self.metadata.stop()
        ip("netns", "del", self._namespace, check=False)


class Host:
    """What machines run on, in a ``with`` statement.

    Args:
        folder: For their consoles.
        cache: uv's, which they see but do not write to.
    """

    def __init__(self, folder, cache):
        self._folder = Path(folder)
        self._cache = Path(cache)
        self._instances = []
        self._forwarders = []
        self._bridge = f"tfb{os.getpid()}"
        self.address = ""
        """This machine's, as its machines know it."""

    def __enter__(self):
        sweep()
        try:
            ip("link", "add", self._bridge, "type", "bridge")
            self._network = self._free_network()
            self.address = f"{self._network}.1"
            ip("addr", "add", f"{self.address}/24", "dev", self._bridge)
            ip("link", "set", self._bridge, "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End all machines and remove what they were made of."""
        for instance in self._instances:
            instance.clear()
        for forwarder in self._forwarders:
            forwarder.close()
        ip("link", "del", self._bridge, check=False)

    def start(
        self,
        script,
        instance_id,
        *,
        environment: Mapping[str, str] | None = None,
        project=None,
        region="us-east-1",
        **values,
    ):
        """Start a machine.

        Args:
            script: Its start-up script.
            instance_id: What its provider calls it.
            environment: Of its system, as an image may have it.
            project: A folder that its image has in /opt/project.
            region: Where it is.
            values: Of its metadata service; see ``Metadata``.
        """
        number = next(_NUMBERS)
        namespace, veth = f"tf-{os.getpid()}-{number}", f"tfv{os.getpid()}x{number}"
        disk, console, user_data = (self._folder / f"{namespace}-{word}" for word in ("disk", "console", "script"))
        disk.mkdir()
        console.touch()
        user_data.write_text(script)
        ip("netns", "add", namespace)
        metadata = Metadata(
            instance_id,
            address=METADATA_ADDRESS,
            port=80,
            region=region,
            prefix=["ip", "netns", "exec", namespace],
            **values,
        )
        instance = None
        try:
            ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            ip("link", "set", veth, "master", self._bridge, "up")
            ip("-n", namespace, "addr", "add", f"{self._network}.{1 + number}/24", "dev", "eth0")
            ip("-n", namespace, "addr", "add", f"{METADATA_ADDRESS}/32", "dev", "lo")
            for device in ("lo", "eth0"):
                ip("-n", namespace, "link", "set", device, "up")
            metadata.start()
            marked = {**(environment or {}), MARK: str(os.getpid())}
            variables = [f"{name}={value}" for name, value in marked.items()]
            with console.open("ab") as log:
                process = subprocess.Popen(
                    [
                        *("setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", namespace),
                        *("unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--kill-child"),
                        *("bash", HERE / "instance.sh", instance_id, disk, console, user_data),
                        *(os.path.realpath(shutil.which("uv")), self._cache, project or "", *variables),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            instance = Instance(instance_id, process, console, metadata, namespace)
            self._instances.append(instance)
        finally:
            if instance is None:
                metadata.stop()
                ip("netns", "del", namespace, check=False)
        return instance

    def publish(self, port):
        """Let machines reach a port of this machine's loopback interface; return the address under which they do."""
        self._forwarders.append(_Forwarder(self.address, port))
        return f"{self.address}:{self._forwarders[-1].port}"

    def _free_network(self):
        taken = ip("-o", "-4", "addr")
        for number in range(254):
            network = f"10.77.{(os.getpid() + number) % 254}"
            if f" {network}." not in taken:
                return network
        raise AssertionError("no network is free")


class _Forwarder:
    """Carries connections from an address to a port of the loopback interface."""

    def __init__(self, address, port):
        self._to = ("127.0.0.1", port)
        self._server = socket.create_server((address, 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                theirs, _ = self._server.accept()
                threading.Thread(target=self._join, args=(theirs,), daemon=True).start()

    def _join(self, theirs):
        try:
            ours = socket.create_connection(self._to)
        except OSError:
            theirs.close()
            return
        back = threading.Thread(target=self._carry, args=(ours, theirs), daemon=True)
        back.start()
        self._carry(theirs, ours)
        back.join()
        theirs.close()
        ours.close()

    @staticmethod
    def _carry(one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


def sweep():
    """Remove what processes have left that are gone; their machines have died with them."""
    for line in ip("netns", "list").splitlines():
        found = re.match(r"tf-(\d+)-\d+\b", line)
        if found and not Path(f"/proc/{found[1]}").exists():
            ip("netns", "del", found[0], check=False)
    for name in re.findall(r"^\d+: (tfb(\d+))\b", ip("link", "show", "type", "bridge"), re.MULTILINE):
        if not Path(f"/proc/{name[1]}").exists():
            ip("link", "del", name[0], check=False)


def left_over():
    """Give what of this process's machines is there: namespaces, links, processes."""
    mine = str(os.getpid())
    namespaces = [line for line in ip("netns", "list").splitlines() if line.startswith(f"tf-{mine}-")]
    links = re.findall(rf"\btf[bv]{mine}\b\S*", ip("link", "show"))
    return namespaces + links + [entry.name for entry in Path("/proc").iterdir() if _is_in(entry)]


def _is_in(process):
    """Say whether a process is one of a machine of this process."""
    with contextlib.suppress(OSError):
        variables = (process / "environ").read_bytes().split(b"\0") if process.name.isdigit() else ()
        return f"{MARK}={os.getpid()}".encode() in variables
    return False
