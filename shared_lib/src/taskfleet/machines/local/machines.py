"""Machines that are worker processes on this computer: the whole pool without an account.

Each has a folder with its papers and a keeper (``local_keeper``), the process that stands for it. The keeper holds a lock for as long as it
lives, so a process that took its number later is never taken for it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from taskfleet.errors import UnreachableError
from taskfleet.files import write_atomically
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
from taskfleet.processes.identity import MACHINE_VARIABLE

with suppress(ImportError):  # Windows, where the provider is not to be had
    import fcntl

INSTANCE_TYPE = "local"
PAPERS, LOCK, PID, ENDING, ENDED, CONSOLE = "machine.json", "lock", "pid", "ending", "ended.json", "console.log"

#: Of what a machine printed, this much is given.
CONSOLE_BYTES = 64 << 10


class LocalMachines:
    """The machines of one job on this computer.

    Args:
        folder: Where each has a folder; no other computer uses it.
        zone: This computer's name.
        command: What a machine runs, in ``project``.
        project: The project's folder.
        environment: All that the worker has in its environment.
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
        """See ``Machines.preflight``: nothing is in the way here."""
        return ()

    def launch(self, order: LaunchRequest) -> LaunchResult:
        """See ``Machines.launch``."""
        started: list[LaunchedMachine] = []
        for token in order.tokens:
            try:
                self._start(token, order)
            except OSError as error:
                why = LaunchFailure(
                    INSTANCE_TYPE, self._zone, FailureReason.INVALID, f"no process can be started: {error}"
                )
                return LaunchResult(tuple(started), (why,))
            started.append(LaunchedMachine(token, INSTANCE_TYPE, self._zone))
        return LaunchResult(tuple(started))

    def list(self) -> Sequence[Machine]:
        """See ``Machines.list``."""
        try:
            folders = sorted(one for one in self._folder.iterdir() if (one / PAPERS).exists())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnreachableError(f"The folder of the local machines cannot be read: {error}.") from error
        return [self._machine(folder) for folder in folders]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """See ``Machines.terminate``; told a second time, a machine does not wait for its tasks any more."""
        for instance_id in instance_ids:
            folder = self._folder / instance_id
            if folder.parent != self._folder or not (folder / PAPERS).exists() or not is_locked(folder):
                continue
            (folder / ENDING).touch()
            with suppress(FileNotFoundError, ProcessLookupError, ValueError):
                os.kill(int((folder / PID).read_text(encoding="ascii")), signal.SIGTERM)

    def console(self, instance_id: str) -> str:
        """See ``Machines.console``."""
        try:
            with (self._folder / instance_id / CONSOLE).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - CONSOLE_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def clear(self) -> Mapping[str, int]:
        """See ``Machines.clear``."""
        for one in self.list():
            if one.state is MachineState.ENDED:
                shutil.rmtree(self._folder / one.instance_id, ignore_errors=True)
        with suppress(OSError):  # others are there
            self._folder.rmdir()
            self._folder.parent.rmdir()
        return {"folders of machines": len(self.list())}

    def _start(self, token: str, order: LaunchRequest) -> None:
        folder = self._folder / token
        if (folder / PID).exists():  # it was started before
            return
        folder.mkdir(parents=True, exist_ok=True)
        papers = {
            "order": order.token,
            "created_at": time.time(),
            "lifetime_seconds": order.lifetime_seconds,
            "command": self._command,
            "project": str(self._project),
        }
        write_atomically(folder / PAPERS, json.dumps(papers))
        with (folder / CONSOLE).open("ab") as console:
            subprocess.run(
                [sys.executable, "-m", "taskfleet.machines.local.keeper", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=self._project,
                env=self._environment | {MACHINE_VARIABLE: token, "SLOTS": str(order.offers[0].slots)},
                check=False,
            )
        if not (folder / PID).exists():
            raise OSError(self.console(token).strip()[-500:] or "the process that looks after it does not start")

    def _machine(self, folder: Path) -> Machine:
        papers = json.loads((folder / PAPERS).read_text(encoding="utf-8"))
        state, detail = MachineState.ENDED, ""
        if is_locked(folder):
            state = MachineState.ENDING if (folder / ENDING).exists() else MachineState.RUNNING
        else:
            detail = _end(folder).get("reason", "its processes were killed")
        return Machine(
            instance_id=folder.name,
            order=papers["order"],
            state=state,
            zone=self._zone,
            instance_type=INSTANCE_TYPE,
            market=Market.ON_DEMAND,
            created_at=papers["created_at"],
            detail=detail,
        )


def is_locked(folder: Path) -> bool:
    """Whether a machine's keeper, or its worker, lives."""
    try:
        with (folder / LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _end(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / ENDED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
