"""Machines that are worker processes on this computer: a pool without a cloud account.

Each machine has a folder with its metadata, and a process that represents it (``shim``). The shim holds a file lock as long as it runs, so
that another process that gets its PID later is never mistaken for it.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from taskfleet.errors import ProviderError, UnreachableError
from taskfleet.files import make_private_folder, open_private, write_atomically
from taskfleet.machine_terms import Market
from taskfleet.machines import (
    FailureReason,
    LaunchedMachine,
    LaunchFailure,
    LaunchRequest,
    LaunchResult,
    Machine,
    MachineState,
)
from taskfleet.machines.shared_files import read_console
from taskfleet.processes.identity import MACHINE_VARIABLE

with suppress(ImportError):  # Windows, where this provider is not available
    import fcntl

INSTANCE_TYPE = "local"
METADATA, LOCK, PID, ENDING, ENDED, CONSOLE = "machine.json", "lock", "pid", "ending", "ended.json", "console.log"


class LocalMachines:
    """The machines of one job on this computer.

    Args:
        folder: The parent of the machines' folders, used by this computer only.
        zone: This computer's name.
        command: What a machine runs.
        project: The project's folder, in which it runs.
        environment: The worker's environment.
    """

    name: ClassVar[str] = "local"

    def __init__(
        self, folder: Path, *, zone: str, command: Sequence[str], project: Path, environment: Mapping[str, str]
    ) -> None:
        self._folder = folder
        self._zone = zone
        self._command = list(command)
        self._project = project
        self._environment = dict(environment)

    def preflight(self) -> Sequence[str]:
        """See ``Machines.preflight``; there are no obstacles."""
        return ()

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """See ``Machines.launch``."""
        launched: list[LaunchedMachine] = []
        for token in request.tokens:
            try:
                self._start(token, request)
            except OSError as error:
                failure = LaunchFailure(
                    INSTANCE_TYPE, self._zone, FailureReason.INVALID, f"the process cannot be started: {error}"
                )
                return LaunchResult(tuple(launched), (failure,))
            launched.append(LaunchedMachine(token, INSTANCE_TYPE, self._zone))
        return LaunchResult(tuple(launched))

    def list(self) -> Sequence[Machine]:
        """See ``Machines.list``."""
        try:
            folders = sorted(one for one in self._folder.iterdir() if (one / METADATA).exists())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnreachableError(f"The folder of the local machines cannot be read: {error}.") from error
        machines = [self._machine(folder) for folder in folders]
        return [one for one in machines if one is not None]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """See ``Machines.terminate``; the second call kills the worker."""
        for instance_id in instance_ids:
            folder = self._find_folder(instance_id)
            if folder is None or not is_locked(folder):
                continue
            (folder / ENDING).touch()
            with suppress(FileNotFoundError, ProcessLookupError, ValueError, OverflowError):
                pid = int((folder / PID).read_text(encoding="ascii"))
                if pid > 1:  # 0 and negative numbers mean groups of processes
                    os.kill(pid, signal.SIGTERM)

    def console(self, instance_id: str) -> str | None:
        """See ``Machines.console``."""
        folder = self._find_folder(instance_id)
        if folder is None:
            return None
        return read_console(folder / CONSOLE, instance_id)

    def clear(self) -> Mapping[str, int]:
        """See ``Machines.clear``."""
        for one in self.list():
            if one.state is MachineState.ENDED:
                shutil.rmtree(self._folder / one.instance_id, ignore_errors=True)
        with suppress(OSError):  # not empty
            self._folder.rmdir()
            self._folder.parent.rmdir()
        return {"folders of machines": len(self.list())}

    def _find_folder(self, instance_id: str) -> Path | None:
        folder = self._folder / instance_id
        return folder if folder.parent == self._folder and (folder / METADATA).exists() else None

    def _start(self, token: str, request: LaunchRequest) -> None:
        folder = self._folder / token
        if (folder / PID).exists():  # an earlier call has started it
            return
        make_private_folder(folder)
        metadata = {
            "order": request.token,
            "created_at": time.time(),
            "lifetime_seconds": request.lifetime_seconds,
            "command": self._command,
            "project": str(self._project),
        }
        write_atomically(folder / METADATA, json.dumps(metadata))
        with open(folder / CONSOLE, "ab", opener=open_private) as console:
            subprocess.run(
                [sys.executable, "-P", "-m", "taskfleet.machines.local.shim", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=self._project,
                env=self._environment | {MACHINE_VARIABLE: token, "SLOTS": str(request.offers[0].slots)},
                check=False,
            )
        if not (folder / PID).exists():
            raise OSError((self.console(token) or "").strip()[-500:] or "its shim did not start")

    def _machine(self, folder: Path) -> Machine | None:
        try:
            order, created_at = _read_metadata(folder / METADATA)
        except FileNotFoundError:  # another process has deleted the folder meanwhile
            return None
        state, detail = MachineState.ENDED, ""
        if is_locked(folder):
            state = MachineState.ENDING if (folder / ENDING).exists() else MachineState.RUNNING
        else:
            detail = _end_reason(folder)
        return Machine(
            instance_id=folder.name,
            request_token=order,
            state=state,
            zone=self._zone,
            instance_type=INSTANCE_TYPE,
            market=Market.ON_DEMAND,
            created_at=created_at,
            detail=detail,
        )


def is_locked(folder: Path) -> bool:
    """Return whether a machine's shim or worker is running."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _read_metadata(path: Path) -> tuple[str, float]:
    """Return the token of a machine's launch request, and when it was created.

    Raises:
        FileNotFoundError: There is no such file.
        ProviderError: The file is damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        order, created_at = found["order"], float(found["created_at"])
        if not isinstance(order, str) or not 0 <= created_at < math.inf:
            raise ValueError("its order or time is wrong")
        return order, created_at
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProviderError(
            f"The file {path} of a local machine is damaged ({type(error).__name__}: {error}). Delete the folder {path.parent}, "
            "and end the machine's processes if there are any."
        ) from error


def _end_reason(folder: Path) -> str:
    try:
        found = json.loads((folder / ENDED).read_text(encoding="utf-8"))
        return str(found["reason"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "its processes were killed"
