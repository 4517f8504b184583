"""``WorkerData``: what functions written for rms-cloud-tasks know about their worker. Users import it from ``taskfleet.rms``."""

import argparse
import base64
import io
import pickle
import time
from collections.abc import Callable
from typing import Any

from taskfleet.context import TaskContext

POLL_SECONDS = 0.1


class Flag:
    """A condition of the worker; it has the methods of an event of ``multiprocessing`` that tasks use."""

    def __init__(self, is_set: Callable[[], bool]) -> None:
        self.is_set = is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the condition is true, or for ``timeout`` seconds; return whether it is true."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (until is None or time.monotonic() < until):
            time.sleep(POLL_SECONDS)
        return self.is_set()


class WorkerData:
    """The third argument of such a function, with the attribute names that it expects. Unknown facts are None.

    Args:
        context: The context of the attempt; None for a function's own tests: all attributes have their defaults.
    """

    def __init__(self, context: TaskContext | None = None) -> None:
        self.args: argparse.Namespace | None = None
        """The command line. Without ``taskfleet.rms.Worker``, it has one attribute: ``rest``, the arguments after ``--``."""
        self.provider: str | None = None
        """``AWS`` or ``GCP``."""
        self.project_id: str | None = None
        """Of Google Cloud."""
        self.job_id: str | None = None
        self.queue_name: str | None = None
        self.exactly_once_queue = False
        """The option; results count once with every queue."""
        self.event_log_to_queue = False
        self.event_log_queue_name: str | None = None
        self.event_log_to_file = False
        self.event_log_file: str | None = None
        self.keepalive_interval = 60.0
        self.instance_type: str | None = None
        self.num_cpus: int | None = None
        self.memory_gb: float | None = None
        self.local_ssd_gb: float | None = None
        self.boot_disk_gb: float | None = None
        self.is_spot: bool | None = False
        self.price_per_hour: float | None = None
        """In USD, boot disk included."""
        self.num_simultaneous_tasks = 1
        self.max_runtime: float | None = 3600
        """In seconds; None for no limit."""
        self.max_memory_allowed_per_task: float | None = None
        self.shutdown_grace_period: float = 30
        self.retry_on_exit = False
        self.retry_on_exception = False
        self.retry_on_timeout = False
        self.simulate_spot_termination_after: float | None = None
        self.simulate_spot_termination_delay: float | None = None
        self.shutdown_event: Flag | None = None
        self.termination_event: Flag | None = None
        if context is not None:
            self._fill(context)

    def _fill(self, context: TaskContext) -> None:
        known: dict[str, Any] = dict(context.rms)
        arguments = known.pop("args", None)
        if arguments is None:
            self.args = argparse.Namespace(rest=list(context.args))
        else:
            self.args = unpack(arguments, main=known.pop("main"))
        self.job_id = self.queue_name = context.job_id
        self.num_cpus = context.cpu_count
        self.num_simultaneous_tasks = context.slots
        self.max_runtime = context.max_runtime_seconds
        self.max_memory_allowed_per_task = context.memory_limit_gib
        for name, value in known.items():
            setattr(self, name, value)
        self.shutdown_event = Flag(lambda: context.stopping)
        self.termination_event = Flag(lambda: context.terminating)

    @property
    def received_termination_notice(self) -> bool:
        """Whether a termination notice for the machine was received."""
        return self.termination_event is not None and self.termination_event.is_set()

    @property
    def received_shutdown_request(self) -> bool:
        """Whether the worker is stopping (Ctrl-C, SIGTERM)."""
        return self.shutdown_event is not None and self.shutdown_event.is_set()


def pack(arguments: argparse.Namespace) -> str:
    """Return a parsed command line as text, for a process that the caller starts."""
    return base64.b64encode(pickle.dumps(arguments)).decode()


def unpack(text: str, *, main: str) -> argparse.Namespace:
    """Return what ``pack`` packed.

    Args:
        text: From a process that started this one.
        main: The module that was the main module there.
    """
    arguments: argparse.Namespace = _Unpickler(base64.b64decode(text), main).load()
    return arguments


class _Unpickler(pickle.Unpickler):
    """Finds what was defined in the main module of another process."""

    def __init__(self, data: bytes, main: str) -> None:
        super().__init__(io.BytesIO(data))
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(self._main if module == "__main__" else module, name)
