"""Pools without a process on the login node: machines that end by themselves, and a controller that is a batch job."""

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from taskfleet.errors import CommandError, ProviderError, WrongSettingError
from taskfleet.files import make_private_folder, open_private, write_atomically
from taskfleet.machines.slurm.commands import Slurm
from taskfleet.processes.identity import CONTROLLER_VARIABLE

#: How long after a machine began to cancel the rest of its array another one takes it for killed, and does the same.
CANCEL_AGAIN_SECONDS = 60.0
#: How long before a controller's time limit its successor is submitted, at most half of its time.
SUCCESSOR_SECONDS = 600
#: How often a controller that was killed is started again within its batch job.
_MOST_STARTS = 3

_CONTROLLER = """#!/bin/bash
source {environment} || exit 1
export {variable}="$SLURM_JOB_ID"
cd {project} || exit 1
successor() {{
  [ -n "$(squeue --noheader --me --states=PENDING --name={name})" ] || sbatch --dependency=singleton {options} {script}
}}
trap 'successor' USR1
trap 'stopped=1; kill -TERM "$controller" 2>/dev/null' TERM
for start in {starts}; do
  {command} &
  controller=$!
  wait "$controller"; code=$?
  while kill -0 "$controller" 2>/dev/null; do wait "$controller"; code=$?; done
  [ "$code" -le 128 ] || [ "$code" -eq 130 ] || [ -n "$stopped" ] && break
  sleep 10
done
[ -n "$stopped" ] || scancel --state=PENDING --me --name={name}
exit "$code"
"""


def controller_name(run: str) -> str:
    """Return the name of a controller's job; all of one name run one after the other."""
    return f"{run}-controller"


class SlurmBatchJobs:
    """See ``BatchJobs``.

    Args:
        slurm: Slurm's commands.
        folder: For the files of batch jobs.
        output: The file that a controller's output is appended to.
        project: The project's folder.
        environment: Lines of bash with the controller's environment.
        options: For sbatch.
        lifetime_seconds: The time limit of a controller's job.
    """

    most_machines: ClassVar[int] = 1000

    def __init__(
        self,
        slurm: Slurm,
        *,
        folder: Path,
        output: Path,
        project: Path,
        environment: str,
        options: Sequence[str],
        lifetime_seconds: float,
    ) -> None:
        self._slurm = slurm
        self._folder = folder
        self.controller_output = output
        self._project = project
        self._environment = environment
        self._options = options
        self._lifetime_seconds = lifetime_seconds

    def cancel_rest(self) -> bool:
        """See ``BatchJobs.cancel_rest``; jobs run on the local cluster, whatever CLUSTER was for the login node."""
        array, token = os.environ.get("SLURM_ARRAY_JOB_ID", ""), os.environ.get("SLURM_JOB_NAME", "")
        if not array or not self._is_first(self._folder / f"{token}.rest"):
            return False
        Slurm().run("scancel", ["--state=PENDING", array])
        return True

    def _is_first(self, marker: Path) -> bool:
        """Return whether this machine is the first that wants to cancel the rest; also if that was long ago: it may have been killed."""
        try:
            os.close(open_private(marker, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            if time.time() - marker.stat().st_mtime < CANCEL_AGAIN_SECONDS:
                return False
            marker.touch()
        except OSError as error:
            raise ProviderError(f"{marker} cannot be written: {error}.") from error
        return True

    def submit_controller(self, run: str, command: Sequence[str]) -> str:
        """See ``BatchJobs.submit_controller``."""
        name = controller_name(run)
        if existing := self._controllers(name):
            raise CommandError(
                f"Batch job {existing[0]} already is, or will be, the controller of this job. 'squeue --me' shows it; 'scancel' "
                "ends it, and the machines go on."
            )
        minutes = max(2, int(self._lifetime_seconds / 60))
        notice_seconds = min(SUCCESSOR_SECONDS, minutes * 30)
        options = [
            f"--job-name={name}",
            "--ntasks=1",
            "--cpus-per-task=1",
            "--mem=1G",
            f"--time={minutes}",
            f"--signal=B:USR1@{notice_seconds}",
            "--requeue",  # after its node failed
            "--open-mode=append",
            "--export=NONE",
            f"--chdir={self._project}",
            f"--output={self.controller_output}",
            *self._options,
        ]
        script, environment = self._folder / f"{name}.sh", self._folder / f"{name}.env"
        text = _CONTROLLER.format(
            environment=shlex.quote(str(environment)),
            variable=CONTROLLER_VARIABLE,
            project=shlex.quote(str(self._project)),
            options=shlex.join(options),
            script=shlex.quote(str(script)),
            starts=" ".join(str(one) for one in range(_MOST_STARTS)),
            command=shlex.join(command),
            name=shlex.quote(name),
        )
        try:
            make_private_folder(self._folder)
            write_atomically(environment, self._environment)
            write_atomically(script, text)
        except OSError as error:
            raise ProviderError(f"The files of a batch job cannot be written to {self._folder}: {error}.") from error
        try:
            return self._slurm.submit(["--parsable", *options], text)
        except WrongSettingError as error:
            raise WrongSettingError(
                f"{error} This is about the controller's job, for which CONTROLLER_OPTIONS come last.",
                setting="CONTROLLER_OPTIONS",
            ) from None

    def cancel_controllers(self, run: str) -> None:
        """See ``BatchJobs.cancel_controllers``."""
        if existing := self._controllers(controller_name(run)):
            self._slurm.run("scancel", existing)

    def _controllers(self, name: str) -> list[str]:
        """Return the IDs of the controllers' jobs that wait or run."""
        return self._slurm.run("squeue", ["--me", "--noheader", f"--name={name}", "--format=%A"]).split()
