"""Machines that are worker processes on a few computers, reached with ssh; ``on_host`` is what runs there."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from taskfleet.errors import ProviderError, UnreachableError
from taskfleet.machine_terms import Host, Market
from taskfleet.machines import (
    FailureReason,
    LaunchedMachine,
    LaunchFailure,
    LaunchRequest,
    LaunchResult,
    Machine,
    MachineState,
)
from taskfleet.machines.ssh.calls import NoSessionError, Ssh, UnusableHostError, at_once
from taskfleet.machines.ssh.offers import ZONE

logger = logging.getLogger(__name__)

#: The machines of a host that does not answer count as ended after this time.
UNANSWERED_SECONDS = 120.0
#: The pauses between calls of a host that does not answer double from the first to the second value.
RETRY_SECONDS = (10.0, 120.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshJob:
    """What the machines of a job are started with."""

    job_id: str
    run: str
    """The prefix of the tokens; empty for all machines of the job."""
    pool: str
    """The pool's name: a host has one machine of each pool at most."""
    hosts: tuple[Host, ...]
    nice: int
    environment: Mapping[str, str]
    scripts: Callable[[], Mapping[str, str]]
    bundle: Callable[[LaunchRequest], Path | None]
    """Returns the packed code; None if hosts run the project where it is."""
    obstacles: Callable[[], Sequence[str]]
    """Checks the hosts, see ``Machines.preflight``."""


class _Known:
    """What is known of a host."""

    def __init__(self) -> None:
        self.machines: tuple[Machine, ...] | None = None
        """As last listed; None if it has not answered yet."""
        self.silent_since: float | None = None
        self.failures = 0
        self.ask_at = 0.0


class SshMachines:
    """The machines of one job on its hosts.

    The hosts' answers are the truth; those of a host that does not answer are remembered for a while, as its workers may go on.

    Args:
        job: What machines are started with.
        ssh: Calls hosts.
        clock: The current time in seconds, from any start.
    """

    name: ClassVar[str] = "ssh"

    def __init__(self, job: SshJob, ssh: Ssh, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._job = job
        self._ssh = ssh
        self._clock = clock
        self._known = {one.name: _Known() for one in job.hosts}

    def preflight(self) -> Sequence[str]:
        """See ``Machines.preflight``."""
        return self._job.obstacles()

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """Start a machine on each of the first offers' hosts; see ``Machines.launch``."""
        tokens = dict(zip((one.instance_type for one in request.offers), request.tokens, strict=False))
        slots = {one.instance_type: one.slots for one in request.offers}
        hosts = [one for one in self._job.hosts if one.name in tokens]
        path = self._job.bundle(request)
        try:
            bundle = b"" if path is None else path.read_bytes()
        except OSError as error:
            raise ProviderError(f"The bundle {path} cannot be read: {error}.") from error
        scripts = dict(self._job.scripts())

        def start(host: Host) -> dict[str, Any]:
            order = {
                **self._about("start"),
                "token": tokens[host.name],
                "order": request.token,
                "pool": self._job.pool,
                "lifetime_seconds": request.lifetime_seconds,
                "nice": self._job.nice,
                "scripts": scripts,
                "environment": {
                    **self._job.environment,
                    "SLOTS": str(min(host.slots or math.inf, slots[host.name])),
                    "TASKFLEET_BUNDLE": "" if path is None else path.name.partition(".")[0],
                },
            }
            return self._ssh.call(host, order, bundle)

        launched, refused, unknown = [], {}, []
        for name, answer in at_once(hosts, start).items():
            if isinstance(answer, NoSessionError | UnusableHostError):
                refused[name] = str(answer)
            elif isinstance(answer, ProviderError):
                unknown.append(str(answer))
            elif "refused" in answer:
                refused[name] = f"{name}: {answer['refused']}"
            else:
                launched.append(LaunchedMachine(tokens[name], name, ZONE))
        if unknown:
            raise UnreachableError(f"{'; '.join(unknown)}.")
        refused |= {name: f"{name} is not in HOSTS" for name in tokens.keys() - {one.name for one in hosts}}
        text = "; ".join(refused.values())
        if request.number > len(tokens):
            refused, text = refused or {request.offers[0].instance_type: ""}, text or "there is one machine a host"
        failures = tuple(LaunchFailure(name, ZONE, FailureReason.STOCK_OUT, text) for name in refused)
        return LaunchResult(tuple(launched), failures)

    def list(self) -> Sequence[Machine]:
        """See ``Machines.list``."""
        now = self._clock()
        self._ask([one for one in self._job.hosts if self._known[one.name].ask_at <= now], now)
        silent = [one for one in self._known.values() if one.silent_since is not None]
        if silent and len(silent) == len(self._known):
            raise UnreachableError(
                "No host in HOSTS answers. Machines that run there go on, and end when their lifetime is over at the latest."
            )
        return [machine for name, one in self._known.items() for machine in self._machines_of(name, one, now)]

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """See ``Machines.terminate``; the second call kills the worker."""
        if not instance_ids:
            return
        wanted = set(instance_ids)
        having = [one for one in self._job.hosts if wanted & self._tokens_of(one.name)]
        hosts = (
            having if {token for one in having for token in self._tokens_of(one.name)} >= wanted else self._job.hosts
        )
        errors = self._call(hosts, {**self._about("end"), "tokens": sorted(wanted)})[1]
        failed = [str(errors[one.name]) for one in having if one.name in errors]
        if failed:
            raise UnreachableError(f"{'; '.join(failed)}.")

    def console(self, instance_id: str) -> str | None:
        """See ``Machines.console``."""
        hosts = [one for one in self._job.hosts if instance_id in self._tokens_of(one.name)] or self._job.hosts
        answers, errors = self._call(hosts, {**self._about("console"), "token": instance_id})
        texts = [one["text"] for one in answers.values() if one["text"] is not None]
        if not texts and len(errors) == len(hosts) and errors:
            raise UnreachableError(f"{'; '.join(map(str, errors.values()))}.")
        return texts[0] if texts else None

    def clear(self) -> Mapping[str, int]:
        """See ``Machines.clear``; what is on a host that does not answer is left there, with a warning."""
        answers, errors = self._call(self._job.hosts, self._about("clear"))
        for error in errors.values():
            logger.warning(
                "%s. If it still has a machine of this job, that ends when its lifetime is over; poe teardown then deletes its folder "
                "~/.taskfleet there.",
                error,
            )
        return {"folders on hosts": sum(one["left"] for one in answers.values())}

    def _about(self, what: str) -> dict[str, Any]:
        return {"do": what, "job_id": self._job.job_id, "run": self._job.run}

    def _call(
        self, hosts: Sequence[Host], request: Mapping[str, Any]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, ProviderError]]:
        """Return the answers and the errors of hosts, by their names."""
        found = self._ssh.call_all(hosts, request)
        answers = {name: one for name, one in found.items() if not isinstance(one, ProviderError)}
        return answers, {name: one for name, one in found.items() if isinstance(one, ProviderError)}

    def _ask(self, hosts: Sequence[Host], now: float) -> None:
        """List the machines of hosts, and remember them; one that has never answered is asked twice."""
        answers, errors = self._call(hosts, self._about("list"))
        again = [one for one in hosts if one.name in errors and self._known[one.name].machines is None]
        if again and not any(self._known[one.name].failures for one in again):
            more, _ = self._call(again, self._about("list"))
            answers |= more
            errors = {name: error for name, error in errors.items() if name not in more}
        for name, answer in answers.items():
            known = self._known[name]
            if known.silent_since is not None:
                logger.warning("%s answers again.", name)
            known.machines = tuple(_machine(name, each, answer["now"]) for each in answer["machines"])
            known.silent_since, known.failures, known.ask_at = None, 0, 0.0
        for name, error in errors.items():
            known = self._known[name]
            if known.silent_since is None:
                known.silent_since = now
                logger.warning("%s. It is asked again later.", error)
            first, longest = RETRY_SECONDS
            known.ask_at = now + min(first * 2.0**known.failures, longest)
            known.failures += 1

    def _tokens_of(self, host: str) -> set[str]:
        return {one.instance_id for one in self._known[host].machines or ()}

    def _machines_of(self, name: str, known: _Known, now: float) -> Sequence[Machine]:
        """Return the machines of a host as it lists them, or as is to be assumed if it does not answer."""
        machines = known.machines or ()
        if known.silent_since is None or now - known.silent_since < UNANSWERED_SECONDS:
            return machines
        detail = f"{name} does not answer any longer; the worker there ends when its lifetime is over, if not before"
        return [_ended(one, detail) if one.state is not MachineState.ENDED else one for one in machines]


def _ended(machine: Machine, detail: str) -> Machine:
    return Machine(
        instance_id=machine.instance_id,
        request_token=machine.request_token,
        state=MachineState.ENDED,
        zone=machine.zone,
        instance_type=machine.instance_type,
        created_at=machine.created_at,
        detail=detail,
    )


def _machine(host: str, found: Mapping[str, Any], now_there: float) -> Machine:
    """Return a machine as a host lists it; its clock may differ."""
    return Machine(
        instance_id=found["token"],
        request_token=found["order"],
        state=MachineState(found["state"]),
        zone=ZONE,
        instance_type=host,
        market=Market.ON_DEMAND,
        created_at=found["created_at"] - now_there + time.time(),
        detail=found["reason"],
    )
