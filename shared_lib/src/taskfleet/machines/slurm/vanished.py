"""Machines that squeue no longer lists.

Slurm forgets jobs a few minutes after their end (MinJobAge), and elements that are cancelled in the queue at once. What a machine printed
may tell when it ran; if not, sacct is asked, once about each machine.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from taskfleet.errors import ProviderError, UnreachableError
from taskfleet.machines.slurm.commands import Slurm, read_time
from taskfleet.machines.slurm.states import is_ended
from taskfleet.machines.slurm.submissions import Submissions

logger = logging.getLogger(__name__)

_FIELDS: Final = ("JobID", "State", "Start", "End", "ExitCode", "MaxRSS")
#: Of IDs per call, since command lines have a maximum length.
_MAX_IDS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Vanished:
    """A job that Slurm's controller has forgotten."""

    began_at: float | None = None
    """None if it never ran."""
    ended_at: float | None = None
    """None if it is unknown."""
    state: str = "CANCELLED"
    """Its last state, in Slurm's words."""
    detail: str = ""
    """Its exit code and its memory, for people; empty if they are unknown."""


class VanishedJobs:
    """What is known about jobs that squeue no longer lists.

    Args:
        slurm: Slurm's commands.
        submissions: The files of the batch jobs.
    """

    def __init__(self, slurm: Slurm, submissions: Submissions) -> None:
        self._slurm = slurm
        self._submissions = submissions
        self._known: dict[str, Vanished] = {}
        self._asked: set[str] = set()
        self._has_accounting = True

    def find(self, instance_ids: Iterable[str]) -> Mapping[str, Vanished]:
        """Return what is known about machines that squeue does not list; those of which nothing is known are missing."""
        ids = list(instance_ids)
        for one in ids:
            if one not in self._known and (found := self._from_files(one)) is not None:
                self._known[one] = found
        unknown = [one for one in ids if one not in self._known and one not in self._asked]
        if unknown and self._has_accounting:
            self._asked.update(unknown)
            self._known |= self._from_accounting(unknown)
        return {one: self._known[one] for one in ids if one in self._known}

    def _from_files(self, instance_id: str) -> Vanished | None:
        if not self._submissions.has_run(instance_id):
            return Vanished()
        began, ended = self._submissions.times(instance_id)
        if began is None or ended is None:
            return None
        state = "FAILED" if ended[1] else "COMPLETED"
        return Vanished(began_at=began, ended_at=ended[0], state=state, detail=f"exit code {ended[1]}")

    def _from_accounting(self, instance_ids: Sequence[str]) -> dict[str, Vanished]:
        found: dict[str, Vanished] = {}
        try:
            for start in range(0, len(instance_ids), _MAX_IDS):
                chunk = instance_ids[start : start + _MAX_IDS]
                found |= read_accounts(
                    self._slurm.run(
                        "sacct",
                        ["--noheader", "--parsable2", f"--format={','.join(_FIELDS)}", f"--jobs={','.join(chunk)}"],
                    )
                )
        except UnreachableError as error:
            logger.info("No accounts of ended jobs: %s", error)
        except ProviderError as error:  # many clusters have none
            self._has_accounting = False
            logger.info("This cluster has no accounts of jobs: %s", error)
        return {name: one for name, one in found.items() if name in instance_ids}


def read_accounts(text: str) -> dict[str, Vanished]:
    """Return the ended jobs in what sacct prints, by ID: a line for each job, and one for each of its steps, which have the memory."""
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == len(_FIELDS) - 1]
    memory = {name.partition(".")[0]: size for name, *_, size in rows if "." in name and size}
    found: dict[str, Vanished] = {}
    for name, state, start, end, code, _ in rows:
        word = state.partition(" ")[0]  # CANCELLED by 1000
        if "." in name or not is_ended(word):
            continue
        exit_code, _, signal = code.partition(":")
        details = [f"exit code {exit_code}"] if exit_code != "0" else []
        details += [f"killed by signal {signal}"] if signal not in ("", "0") else []
        details += [f"at most {memory[name]} of memory"] if name in memory else []
        found[name] = Vanished(
            began_at=read_time(start), ended_at=read_time(end), state=word, detail=", ".join(details)
        )
    return found
