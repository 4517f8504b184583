"""Checks of all hosts before anything is started, with what to do about each obstacle."""

import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from taskfleet.errors import WrongSettingError
from taskfleet.machines.ssh.calls import Ssh, UnusableHostError
from taskfleet.processes.identity import hostname
from taskfleet.settings import Configuration
from taskfleet.settings.parsers import is_in_project
from taskfleet.settings.provider_fields import SshSettings

logger = logging.getLogger(__name__)

#: Heartbeats have the time of the worker's clock.
MAX_SKEW_SECONDS = 60.0
#: For the project's packages.
MIN_FREE_GIB = 1.0


@dataclass(frozen=True, slots=True)
class Checks:
    """What the hosts have."""

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By the name of the host, see ``on_host.do_check``: those that answer."""
    silent: dict[str, str] = field(default_factory=dict)
    """Those that do not answer for now, with the reason."""
    obstacles: list[str] = field(default_factory=list)
    """What the user has to change first."""


def uses_project(configuration: Configuration) -> bool:
    """Return whether hosts run the project where it is, since they find the queue by its folder; otherwise they get a bundle of it."""
    return is_in_project(configuration.settings.queue_url)


def check_hosts(configuration: Configuration) -> Checks:
    """Check all hosts at the same time, by one call of each.

    Raises:
        WrongSettingError: The queue is at an address that no other computer can reach.
    """
    own = configuration.of(SshSettings)
    in_place = uses_project(configuration)
    request: dict[str, Any] = {"do": "check"}
    address = None if in_place else _queue_address(configuration)
    if address is not None:
        request["queue"] = address
    probe = configuration.ledger_path.with_name(f".taskfleet-probe-{os.urandom(6).hex()}")
    if in_place:
        request |= {"probe": str(probe), "probe_text": probe.name, "python": sys.executable}
        with suppress(OSError):
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.write_text(probe.name, encoding="ascii")
    began_at = time.time()
    try:
        answers = Ssh(own.ssh_options).call_all(own.hosts, request)
    finally:
        probe.unlink(missing_ok=True)
    found = Checks()
    for host, answer in answers.items():
        if isinstance(answer, UnusableHostError):
            found.obstacles.append(f"{answer}.")
        elif isinstance(answer, Exception):
            found.silent[host] = str(answer)
        elif problems := _problems(answer, configuration, address, began_at=began_at, ended_at=time.time()):
            found.obstacles.append(f"{host}: {'; '.join(problems)}.")
        else:
            found.facts[host] = answer
    return found


def report_silent(checks: Checks, configuration: Configuration) -> None:
    """Warn of hosts that do not answer."""
    slots = {one.name: one.slots for one in configuration.of(SshSettings).hosts}
    for host, reason in checks.silent.items():
        number = "" if slots.get(host) else f"; it then gets one task at a time, or N with {host}:N in HOSTS"
        logger.warning("%s. It is left out until it answers%s.", reason, number)


def _problems(
    found: Mapping[str, Any],
    configuration: Configuration,
    address: tuple[str, int] | None,
    *,
    began_at: float,
    ended_at: float,
) -> list[str]:
    """Return what is wrong with a host, and what to do."""
    problems = []
    if found["system"] != "Linux":
        problems.append(f"it runs {found['system']}, and workers over ssh need Linux")
    if not found["bash"]:
        problems.append("there is no bash there; install it")
    skew = max(began_at - found["now"], found["now"] - ended_at)
    if skew > MAX_SKEW_SECONDS:
        problems.append(
            f"its clock and that of {hostname()} differ by {skew:.0f} s; correct the wrong one ('timedatectl set-ntp true')"
        )
    if not found["is_writable"]:
        problems.append("your home directory there cannot be written to")
    elif found["free_gib"] < MIN_FREE_GIB:
        problems.append(
            f"its disk is full: {found['free_gib']:.1f} GiB are free in your home directory, and {MIN_FREE_GIB:g} GiB are needed"
        )
    if uses_project(configuration):
        if not found["sees_project"]:
            problems.append(
                f"it does not see the folder {configuration.ledger_path.parent} of this computer "
                f"(QUEUE_URL={configuration.settings.queue_url}). Put the project into a folder that all hosts share, at the same path, or "
                "set QUEUE_URL=postgresql://SERVER/DATABASE in config/task.env"
            )
        elif not found["python"]:
            problems.append(
                f"it cannot run this project's Python, {sys.executable}. The environment (.venv) and its Python have to be in the shared "
                "folder, and the computers have to be of one kind"
            )
    elif not found["uv"]:
        problems.append("there is no uv there. Install it: curl -LsSf https://astral.sh/uv/install.sh | sh")
    if found["queue"] and address is not None:
        problems.append(
            f"it cannot reach the queue at {address[0]}:{address[1]} ({found['queue']}). QUEUE_URL needs an address that the hosts can "
            "reach, and the server has to listen there"
        )
    return problems


def _queue_address(configuration: Configuration) -> tuple[str, int] | None:
    """Return the address of the database with the queue; None if the queue is elsewhere, or its address is not in the URL alone.

    Raises:
        WrongSettingError: It is a socket of this computer.
    """
    url = configuration.settings.queue_url
    if not url.startswith(("postgres:", "postgresql:")):
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # several servers
        return None
    if not host and "PGHOST" not in configuration.exports and "host" not in parts.query:
        raise WrongSettingError(
            "QUEUE_URL has no host, so that it is a database of the computer that a worker runs on. Name the database's server, as the "
            "hosts reach it: QUEUE_URL=postgresql://SERVER/DATABASE.",
            setting="QUEUE_URL",
        )
    return (host, port or 5432) if host and "%" not in host else None
