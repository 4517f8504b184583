"""Machines of a Slurm cluster: the elements of job arrays. A launch request is one array, whose job name is the request's token.

Slurm's controller serves a whole site, so it is asked as little as possible: ``list`` answers from memory for a while, and longer as long
as nothing changes, unless machines were launched or terminated since.
"""

import logging
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from taskfleet.errors import ProviderError, UnreachableError, WrongSettingError
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
from taskfleet.machines.slurm.commands import Slurm, read_time
from taskfleet.machines.slurm.errors import failure_of
from taskfleet.machines.slurm.offers import allocation
from taskfleet.machines.slurm.partitions import SEPARATOR
from taskfleet.machines.slurm.script import time_limit_minutes
from taskfleet.machines.slurm.states import SUSPICIOUS, end_of, is_known, state_of
from taskfleet.machines.slurm.submissions import Submissions, job_of
from taskfleet.machines.slurm.vanished import Vanished, VanishedJobs

logger = logging.getLogger(__name__)

#: How long a list is valid; it doubles up to the second number as long as nothing changes. Each squeue is two calls of the controller.
LIST_SECONDS = (80.0, 300.0)
#: How long a list is valid after machines were launched or terminated.
CHANGING_LIST_SECONDS = 10.0
#: A machine that ends sooner after its start may have met a bad node; after this many, the node is excluded.
QUICK_END_SECONDS = 60.0
MAX_QUICK_ENDS = 2
#: The pause between two calls of sbatch.
SUBMIT_PAUSE_SECONDS = 2.0
#: The first word of the comment of a job array, from which ``list`` knows whose it is; then the job, the type, the zone and the number.
_MARK = "taskfleet"
#: Array, index, name, state, reason, submitted, started, ended, nodes, comment.
_FIELDS = ("%F", "%K", "%j", "%T", "%r", "%V", "%S", "%e", "%N", "%k")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJob:
    """What the batch jobs of a job are submitted with."""

    job_id: str
    run: str
    """The prefix of the tokens; empty for all machines of the job."""
    project: Path
    options: tuple[str, ...]
    """Options for sbatch from the settings."""
    script: Callable[[LaunchRequest], str]
    """Returns the batch script."""
    environment: Callable[[LaunchRequest], str]
    """Returns the lines of bash that the script reads its environment from."""
    is_exclusive: bool
    nodes: int = 1
    """Of a machine."""
    obstacles: Callable[[], Sequence[str]]
    """Checks the settings with the cluster, see ``Machines.preflight``."""


class SlurmMachines:
    """The machines of one job on a Slurm cluster.

    Args:
        job: What batch jobs are submitted with.
        slurm: Slurm's commands.
        submissions: The files of the batch jobs.
        clock: The current time in seconds since the epoch.
        pause: Waits for some seconds.
    """

    name: ClassVar[str] = "slurm"

    def __init__(
        self,
        job: SlurmJob,
        slurm: Slurm,
        submissions: Submissions,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._job = job
        self._slurm = slurm
        self._submissions = submissions
        self._clock = clock
        self._pause = pause
        self._listed: tuple[Machine, ...] = ()
        self._valid_until = -math.inf
        self._valid_seconds = LIST_SECONDS[0]
        self._vanished = VanishedJobs(slurm, submissions)
        self._noted: set[str] = set()
        """The machines whose quick end is recorded."""
        self._accepted = sys.maxsize
        """The most machines to ask for at a time, once Slurm has refused a request because of the site's limits."""
        self._warned: set[str] = set()

    def preflight(self) -> Sequence[str]:
        """See ``Machines.preflight``."""
        return self._job.obstacles()

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Submit a job array, whose elements start when there are nodes for them; see ``Machines.launch``.

        Raises:
            UnreachableError: See ``Machines.launch``.
            ProviderError: A setting is wrong, or the files cannot be written.
        """
        _, script = self.submission(request)
        if not self._submissions.begin(request.token, script, self._job.environment(request)):
            return self._launched_before(request)
        job_id, number, failure = self._submit(request)
        if number:
            self._submissions.set_job(request.token, job_id, number)
            self._expect_change()
            logger.info("Request %s is job array %s of %d machines.", request.token, job_id, number)
        else:
            self._submissions.forget(request.token)
        launched = [_queued(f"{job_id}_{index}", request) for index in range(1, number + 1)]
        return LaunchResult(tuple(launched), () if failure is None else (failure,))

    def submission(self, request: LaunchRequest, number: int | None = None) -> tuple[Sequence[str], str]:
        """Return the arguments of sbatch for a launch request, and the batch script, which has the whole command in a comment.

        Args:
            request: The launch request.
            number: The number of machines to submit, if not all.
        """
        arguments = [*self._arguments(request, number or request.number), *self._job.options]
        command = shlex.join(self._slurm.command("sbatch", arguments)).replace("\n", "\\n")
        head, _, rest = self._job.script(request).partition("\n")
        return arguments, f"{head}\n# {command}\n{rest}"

    def list(self) -> Sequence[Machine]:
        """See ``Machines.list``; ended jobs are listed as long as Slurm knows them (MinJobAge, usually five minutes)."""
        if self._clock() < self._valid_until:
            return self._listed
        found = self._query()
        is_quiet = _states(found) == _states(self._listed) and not any(
            one.state is MachineState.ENDING for one in found
        )
        self._valid_seconds = min(2 * self._valid_seconds, LIST_SECONDS[1]) if is_quiet else LIST_SECONDS[0]
        self._listed, self._valid_until = found, self._clock() + self._valid_seconds
        return found

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """See ``Machines.terminate``; workers get SIGTERM, and SIGKILL after the cluster's KillWait (usually 30 s)."""
        wanted = set(instance_ids)
        if not wanted:
            return
        existing = [
            one.instance_id
            for one in self._query()
            if one.instance_id in wanted and one.state not in (MachineState.ENDED, MachineState.ENDING)
        ]
        if existing:
            self._slurm.run("scancel", _expressions(existing))
        self._expect_change()

    def console(self, instance_id: str) -> str | None:
        """See ``Machines.console``."""
        return self._submissions.console(instance_id)

    def clear(self) -> Mapping[str, int]:
        """See ``Machines.clear``."""
        existing = [one.instance_id for one in self._query() if one.state is not MachineState.ENDED]
        return {"files of batch jobs": self._submissions.clear(existing)}

    def _expect_change(self) -> None:
        self._valid_seconds = LIST_SECONDS[0]
        self._valid_until = min(self._valid_until, self._clock() + CHANGING_LIST_SECONDS)

    def _submit(self, request: LaunchRequest) -> tuple[str, int, LaunchFailure | None]:
        """Submit as many of the machines as the limits of the site allow; return the array, their number, and why the others are refused.

        Slurm refuses the whole array if a limit allows only a part of it, and does not say which, so that half of it is tried.
        """
        number = min(request.number, self._accepted)
        failure = None if number == request.number else _refusal(request, f"only {number} were accepted before")
        while True:
            arguments, script = self.submission(request, number)
            try:
                job_id = self._slurm.submit(arguments, script)
            except UnreachableError:
                raise
            except ProviderError as error:
                reason = failure_of(str(error))
                if reason is None and isinstance(error, WrongSettingError):
                    self._submissions.forget(request.token)
                    raise
                failure = _refusal(request, str(error), reason or FailureReason.INVALID)
            else:
                break
            if failure.reason is not FailureReason.QUOTA or number == 1 or number == self._accepted:
                self._accepted = max(1, number // 2) if failure.reason is FailureReason.QUOTA else self._accepted
                return "", 0, failure
            number //= 2
            self._pause(SUBMIT_PAUSE_SECONDS)
        if failure is not None:  # twice as many may be accepted when some of these have ended
            self._accepted = 2 * number if number == self._accepted else number
        return job_id, number, failure

    def _arguments(self, request: LaunchRequest, number: int) -> Sequence[str]:
        offer = request.offers[0]
        bad = sorted(node for node, ended in self._submissions.quick_ends().items() if len(ended) >= MAX_QUICK_ENDS)
        at_once = "" if request.at_once is None else f"%{request.at_once}"
        return [
            "--parsable",
            f"--array=1-{number}{at_once}",
            f"--job-name={request.token}",
            f"--comment={_MARK} {self._job.job_id} {offer.instance_type} {offer.zone} {number}",
            *allocation(
                cpus=offer.cpus,
                memory_gib=offer.memory_gib,
                partition=offer.zone,
                is_exclusive=self._job.is_exclusive,
                nodes=self._job.nodes,
            ),
            f"--time={time_limit_minutes(request.lifetime_seconds)}",
            *([f"--exclude={','.join(bad)}"] if bad else []),
            "--no-requeue",
            "--open-mode=append",
            "--export=NONE",
            f"--chdir={self._job.project}",
            f"--output={self._submissions.path('%A_%a.out')}",
        ]

    def _launched_before(self, request: LaunchRequest) -> LaunchResult:
        """Return the machines of a request that was submitted before, as far as Slurm knows them."""
        offer = request.offers[0]
        found = [one for one in self._query() if one.request_token == request.token]
        if found:
            self._submissions.set_job(request.token, job_of(found[0].instance_id) or "", request.number)
        failures: tuple[LaunchFailure, ...] = ()
        if len(found) < request.number:
            text = f"request {request.token} was submitted before, and Slurm no longer knows all of its machines"
            failures = (LaunchFailure(offer.instance_type, offer.zone, FailureReason.STOCK_OUT, text),)
        return LaunchResult(tuple(_queued(one.instance_id, request) for one in found), failures)

    def _query(self) -> tuple[Machine, ...]:
        submitted = self._submissions.jobs()  # first, so that squeue knows all of these, or has forgotten them
        text = self._slurm.run(
            "squeue",
            ["--me", "--noheader", "--all", "--array", "--states=all", f"--format={SEPARATOR.join(_FIELDS)}"],
        )
        lines = [line.split(SEPARATOR) for line in text.splitlines()]
        found: dict[str, Machine] = {}
        arrays = {job_id: (token, number, "", "") for token, (job_id, number) in submitted.items() if number}
        for fields in lines:
            if len(fields) != len(_FIELDS):
                continue
            array, index, name, *_, comment = (one.strip() for one in fields)
            words = comment.split(" ")
            if not (name.startswith(self._job.run) and words[:2] == [_MARK, self._job.job_id] and len(words) == 5):
                continue
            machine = self._read(fields, instance_type=words[2], zone=words[3])
            if index.isdecimal():
                found[machine.instance_id] = machine
            if words[4].isdecimal():
                arrays[array] = name, int(words[4]), words[2], words[3]
        missing = {
            f"{array}_{index}": array
            for array, (_, number, *_) in arrays.items()
            for index in range(1, number + 1)
            if f"{array}_{index}" not in found
        }
        for instance_id, vanished in self._vanished.find(missing).items():
            found[instance_id] = _ended(instance_id, vanished, *arrays[missing[instance_id]])
        return tuple(found.values())

    def _read(self, fields: Sequence[str], *, instance_type: str, zone: str) -> Machine:
        """Return a line of squeue as a machine."""
        array, index, name, state, reason, submitted, started, ended, nodes, _ = (one.strip() for one in fields)
        if not is_known(state) and state not in self._warned:
            self._warned.add(state)
            logger.warning("Slurm reports the unknown job state %s; such machines count as running.", state)
        kind, has_run = state_of(state), bool(nodes)
        running_since = read_time(started) if has_run and kind is not MachineState.QUEUED else None
        end_reason, detail = None, ""
        if kind is MachineState.ENDED:
            end_reason, detail = end_of(state, has_run=has_run)
            seconds = (read_time(ended) or math.inf) - (running_since or 0.0)
            if state in SUSPICIOUS and has_run and seconds < QUICK_END_SECONDS:
                self._note_quick_end(nodes, f"{array}_{index}")
                detail = f"{detail} after {seconds:.0f} s on node {nodes}"
        elif kind is MachineState.QUEUED and reason not in ("", "None"):
            detail = f"waits in Slurm's queue ({reason})"
        return Machine(
            instance_id=f"{array}_{index}",
            request_token=name,
            state=kind,
            zone=zone,
            instance_type=instance_type,
            market=Market.ON_DEMAND,
            created_at=read_time(submitted) or 0.0,
            running_since=running_since,
            end_reason=end_reason,
            ended_at=read_time(ended) if kind is MachineState.ENDED else None,
            detail=detail,
        )

    def _note_quick_end(self, node: str, instance_id: str) -> None:
        if instance_id not in self._noted and instance_id not in self._submissions.quick_ends().get(node, ()):
            self._submissions.note_quick_end(node, instance_id)
        self._noted.add(instance_id)


def _ended(instance_id: str, vanished: Vanished, token: str, number: int, instance_type: str, zone: str) -> Machine:  # noqa: ARG001
    """Return an element that squeue no longer lists."""
    has_run = vanished.began_at is not None
    reason, detail = end_of(vanished.state, has_run=has_run)
    return Machine(
        instance_id=instance_id,
        request_token=token,
        state=MachineState.ENDED,
        zone=zone,
        instance_type=instance_type,
        running_since=vanished.began_at,
        ended_at=vanished.ended_at,
        end_reason=reason,
        detail=", ".join(filter(None, (detail, vanished.detail))) if has_run else "cancelled before it began",
    )


def _refusal(request: LaunchRequest, text: str, reason: FailureReason = FailureReason.QUOTA) -> LaunchFailure:
    return LaunchFailure(request.offers[0].instance_type, request.offers[0].zone, reason, text)


def _expressions(instance_ids: Sequence[str]) -> list[str]:
    """Return machines as scancel takes them: ``17_[1-500,502]`` is one call of Slurm's controller, where each ID would be another one."""
    found: dict[str, list[list[int]]] = {}
    for array, index in sorted((int(one), int(two)) for one, _, two in (each.partition("_") for each in instance_ids)):
        runs = found.setdefault(str(array), [])
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return [f"{array}_[{','.join(f'{a}-{b}' for a, b in runs)}]" for array, runs in found.items()]


def _queued(instance_id: str, request: LaunchRequest) -> LaunchedMachine:
    offer = request.offers[0]
    return LaunchedMachine(instance_id, offer.instance_type, offer.zone, is_queued=True)


def _states(machines: Sequence[Machine]) -> dict[str, MachineState]:
    return {one.instance_id: one.state for one in machines}
