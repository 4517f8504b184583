"""Calls of Slurm's commands, and what their errors mean.

Slurm reports errors as text only; the texts are those of ``slurm_errno.c``, the same since version 17 at least.
"""

import calendar
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Final

from taskfleet.errors import ProviderError, UnreachableError, WrongSettingError

logger = logging.getLogger(__name__)

#: How long a command may take. Slurm's own limit for one message is MessageTimeout, usually 10 s, which commands repeat a few times.
COMMAND_SECONDS = 120.0
#: Of a job that submits another one, and of users: options for sbatch or squeue that would change what a command does.
_FOREIGN = (
    "SLURM_",
    "SBATCH_",
    "SRUN_",
    "SALLOC_",
    "SQUEUE_",
    "SCANCEL_",
    "SINFO_",
    "SCONTROL_",
    "PMI",
    "OMPI_",
    "PALS_",
)
_OWN = ("SLURM_CONF", "SLURM_JWT")
_UNREACHABLE = re.compile(
    r"socket timed out|unable to contact slurm|temporarily unable|connection (?:refused|timed out|reset)|zero bytes|"
    r"transport endpoint|controller not responding|try again|not respond|communication|problem talking to database|"
    r"can't be reached",
    re.IGNORECASE,
)
#: What the errors of wrong settings say, and the settings.
_SETTINGS: Final = (
    (re.compile(r"invalid partition|no partition specified|access/permission denied", re.IGNORECASE), "PARTITION"),
    (re.compile(r"invalid account", re.IGNORECASE), "ACCOUNT"),
    (re.compile(r"invalid qos", re.IGNORECASE), "QOS"),
    (re.compile(r"invalid feature", re.IGNORECASE), "CONSTRAINT"),
    (re.compile(r"reservation", re.IGNORECASE), "RESERVATION"),
    (re.compile(r"generic resource|\bgres\b", re.IGNORECASE), "GRES"),
    (re.compile(r"time limit(?!s)", re.IGNORECASE), "LIFETIME_HOURS"),
    (re.compile(r"--clusters?\b|list clusters", re.IGNORECASE), "CLUSTER"),
    (
        re.compile(r"unrecognized option|invalid option|option requires|ambiguous|node name", re.IGNORECASE),
        "SLURM_OPTIONS",
    ),
)


def read_time(text: str) -> float | None:
    """Return a time in UTC, such as 2026-11-29T20:25:17, in seconds since the epoch; None for words like N/A."""
    try:
        return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None


class SlurmError(ProviderError):
    """A command of Slurm failed for a reason that is not the settings'."""


class Slurm:
    """Runs the commands of Slurm.

    Args:
        cluster: The cluster, for sites with several; empty for the local one.
        command_seconds: How long a command may take.
    """

    def __init__(self, cluster: str = "", *, command_seconds: float = COMMAND_SECONDS) -> None:
        self._cluster = cluster
        self._command_seconds = command_seconds

    def command(self, name: str, arguments: Sequence[str]) -> list[str]:
        """Return the words of a command, with the argument for the cluster if there is one."""
        cluster = [f"--clusters={self._cluster}"] if self._cluster and name != "scontrol" else []
        return [name, *cluster, *arguments]

    def run(self, command: str, arguments: Sequence[str], *, script: str = "", with_messages: bool = False) -> str:
        """Run a command and return what it prints.

        Args:
            command: Such as ``squeue``.
            arguments: Its arguments, except that for the cluster.
            script: Its standard input.
            with_messages: Whether to return its standard error too.

        Raises:
            UnreachableError: The controller did not answer, or not in time; what was requested may have happened.
            WrongSettingError: Slurm does not accept a setting, or the command is not there.
            SlurmError: Another error.
        """
        if shutil.which(command) is None:
            raise WrongSettingError(
                f"PROVIDER=slurm: there is no command {command} here. Run this on a login node of the cluster; if it is one, the site's "
                "documentation has the module to load, or what to add to PATH.",
                setting="PROVIDER",
            )
        try:
            done = subprocess.run(
                self.command(command, arguments),
                input=script,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=self._command_seconds,
                env=_environment(os.environ),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"Slurm: {command} did not end within {self._command_seconds:g} s.") from None
        if done.returncode == 0:
            if done.stderr:
                logger.debug("%s: %s", command, done.stderr.strip())
            printed = done.stdout + done.stderr if with_messages else done.stdout
            return _without_cluster(printed) if self._cluster else printed
        if done.returncode < 0:
            raise UnreachableError(f"Slurm: {command} was killed by signal {-done.returncode}.")
        raise _error(command, done.stderr or done.stdout or f"exit code {done.returncode}")

    def submit(self, arguments: Sequence[str], script: str) -> str:
        """Submit a batch job with ``sbatch`` and return its ID.

        Args:
            arguments: Options of sbatch, ``--parsable`` among them, except that for the cluster.
            script: The batch script.

        Raises:
            UnreachableError: As for ``run``, or the answer is not an ID: the job may have been submitted.
            WrongSettingError: As for ``run``.
            SlurmError: As for ``run``.
        """
        job_id = self.run("sbatch", arguments, script=script).strip().partition(";")[0]
        if not job_id.isdecimal():
            raise UnreachableError(f"Slurm: the answer of sbatch is not the ID of a job: {job_id[:200]!r}.")
        return job_id


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a command does the same for everyone, also inside another job."""
    kept = {name: value for name, value in environ.items() if name in _OWN or not name.startswith(_FOREIGN)}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _without_cluster(text: str) -> str:
    """Return what a command prints for one cluster, without the line that names it."""
    return re.sub(r"\ACLUSTER: .*\n", "", text)


def _error(command: str, text: str) -> ProviderError:
    lines = [
        re.sub(r"^(?:\w+: (?:error|fatal)|allocation failure): ", "", line).strip()
        for line in text.splitlines()
        if line.strip()
    ]
    words = "; ".join(dict.fromkeys(lines))
    if _UNREACHABLE.search(words) and "clusters" not in words:
        return UnreachableError(f"Slurm's controller does not answer {command} ({words}).")
    for pattern, setting in _SETTINGS:
        if pattern.search(words):
            return WrongSettingError(
                f"Slurm: {command} does not accept the settings. Correct {setting} in config/pool.env. ({words})",
                setting=setting,
            )
    return SlurmError(f"Slurm: {command} failed: {words}")
