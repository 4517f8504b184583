"""Common parts of the doubles of services: a separate process, fault injection, a clock that can be advanced.

A double obeys whoever started it, in lines of JSON on its standard input, and ends when that is closed; so none outlives its tests.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from taskfleet.clouds.aws_permissions import AWS
from taskfleet.clouds.google_permissions import GOOGLE

#: The repository, which is the import path of the process.
ROOT = Path(__file__).resolve().parents[3]
#: How long a delayed message is not delivered.
LATE_SECONDS = 1.0


class Double:
    """A service on this machine in a separate process, from ``start`` to ``stop``, or in a ``with`` statement."""

    module: ClassVar[str]
    """The module that the process runs."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the service, and return when it answers.

        Raises:
            FileNotFoundError: It lacks something that is to be installed.
        """
        self._process = subprocess.Popen(
            self.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        answer = self._answer()
        if "lacks" in answer:
            self.stop()
            raise FileNotFoundError(answer["lacks"])
        self.port = answer["port"]

    def command(self) -> list[str]:
        """Return the command line of the process."""
        return [sys.executable, "-m", self.module]

    def stop(self) -> None:
        """Stop the service and discard its state."""
        if self._process is not None:
            self.resume()
            self._process.kill()
            self._process.communicate()
            self._process = None

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which the service's real clients find it."""
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Advance the clock: leases and delays end earlier."""
        self._ask(advance=seconds)

    def fault(
        self, action: str, kind: str = "error", *, times: int | None = 1, share: float = 1.0, **details: Any
    ) -> None:
        """Inject faults into requests.

        Args:
            action: Which requests; "*" for all.
            kind: ``error`` (turned away, with the details ``code``, ``status`` and ``message`` as the service knows them), ``lost`` (done,
                but the answer is lost), ``partial`` (some entries of a batch fail), ``duplicate`` (of the action "(each message)": what is
                handed out stays there for others too) or ``late`` (of the same: it is passed over for LATE_SECONDS, so that others come
                before it).
            times: How often, None for ever.
            share: Of the requests, from 0 to 1.
            details: More about the error.
        """
        self._ask(fault={"action": action, "kind": kind, "times": times, "share": share, **details})

    def clear_faults(self) -> None:
        """Remove all injected faults."""
        self._ask(clear=True)

    def requests(self) -> Counter[str]:
        """Return the number of requests so far by action."""
        return Counter(self._ask()["requests"])

    def permissions(self) -> Counter[str]:
        """Return how often each permission was needed so far, whether or not it was granted."""
        return Counter(self._ask()["permissions"])

    def resources(self) -> Counter[tuple[str, str]]:
        """Return how often each permission was needed on each queue so far; SQS and Pub/Sub only."""
        return Counter({(permission, name): n for permission, name, n in self._ask()["resources"]})

    def unlisted(self) -> set[str]:
        """Return the needed permissions that are missing in the library's tables."""
        return {name for name in self.permissions() if name not in AWS and name not in GOOGLE}

    def pause(self) -> None:
        """Suspend the process: it accepts connections, but does not answer."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the process."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        """Start the service."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the service."""
        self.stop()

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.module} has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


# --- in the process ---


class Clock:
    """A clock that can be advanced, in seconds since the epoch."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def now(self) -> float:
        """Return the time."""
        return time.time() + self.ahead_seconds


class Faults:
    """Injected faults, and counts of requests and needed permissions; thread-safe."""

    def __init__(self, seed: int = 0) -> None:
        self.requests: Counter[str] = Counter()
        self.permissions: Counter[str] = Counter()
        self.resources: Counter[tuple[str, str]] = Counter()
        self._ordered: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._random = random.Random(seed)

    def add(self, fault: Mapping[str, Any]) -> None:
        """Inject a fault."""
        with self._lock:
            self._ordered.append(dict(fault))

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            self._ordered.clear()

    def need(self, *permissions: str, on: str = "") -> None:
        """Count the permissions that a request needs, on a queue if that is known."""
        with self._lock:
            self.permissions.update(permissions)
            if on:
                self.resources.update((permission, on) for permission in permissions)

    def draw(self, action: str) -> dict[str, Any]:
        """Count a request, and return its fault; empty for none."""
        with self._lock:
            self.requests[action] += 1
            for fault in self._ordered:
                if fault["action"] in (action, "*") and fault["times"] != 0 and self._random.random() < fault["share"]:
                    if fault["times"] is not None:
                        fault["times"] -= 1
                    return fault
        return {}


def obey(
    port: int,
    clock: Clock,
    faults: Faults,
    wake: Callable[[], None],
    hear: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> None:
    """Report the port, and carry out the commands from standard input until it is closed.

    Args:
        port: Where the clients come to.
        clock: May be put forward.
        faults: May be ordered.
        wake: Called when the clock has been put forward.
        hear: Given every command, for those that only this service knows.
    """
    print(json.dumps({"port": port}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "advance" in command:
            clock.ahead_seconds += command["advance"]
            wake()
        if "fault" in command:
            faults.add(command["fault"])
        if "clear" in command:
            faults.clear()
        hear(command)
        on_queues = [(*key, n) for key, n in faults.resources.items()]
        answer = {"requests": faults.requests, "permissions": faults.permissions, "resources": on_queues}
        print(json.dumps(answer), flush=True)
