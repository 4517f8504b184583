"""The batch script of machines, and the environment that it reads."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from taskfleet.processes.identity import BEGAN_VARIABLE, CONTROLLER_VARIABLE, NODES_VARIABLE

#: When the job reaches its time limit, in seconds since the epoch.
END_VARIABLE = "TASKFLEET_ENDS_AT"
#: Of a job that submits another one: they would give its steps the other job's CPUs.
_OF_JOBS = (
    "SLURM_",
    "SBATCH_",
    "SRUN_",
    "PMI",
    "OMPI_",
    "PALS_",
    "TASKFLEET_MACHINE",
    BEGAN_VARIABLE,
    CONTROLLER_VARIABLE,
)
#: The user's own settings of MPI, unlike the variables that MPI sets for its processes.
_OF_USERS = re.compile(r"SLURM_MPI_TYPE|OMPI_MCA_(?!orte|ess|pmix|initial|shmem_RUNTIME|mca_base_env)\w+")
#: Passes SIGTERM on to the worker, and waits for its end.
_WAIT = """worker=$!
trap 'stopped=1; kill -TERM "$worker"' TERM
wait "$worker"; code=$?
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; code=$?; done"""
#: Of a machine that needs no controller: what happens at its end, however it came. The program ends with 0 if the array was cancelled, with
#: 10 if tasks are left and the machine ran some. If no machine of the array has run any, the third cancels it; if others have, this one
#: keeps its place for a minute, lest a bad node takes one machine after the other.
_AT_END = """code= stopped=
taskfleet_end() {{
  code=${{code:-$?}}
  trap - EXIT; set +e
  echo "[taskfleet] ended $(date +%s) $code"
  [ -z "$stopped" ] || exit "$code"
  {command}
  case $? in
    0) exit "$code" ;;
    10) : > {files}.worked; exit "$code" ;;
  esac
  : > {files}.failed-"$SLURM_ARRAY_TASK_ID"
  if [ -e {files}.worked ]; then
    sleep {pause_seconds}
  elif [ "$(ls {files}.failed-* | wc -l)" -ge {most_failures} ]; then
    echo "No task ran on the first {most_failures} machines: those that wait in the queue are cancelled."
    scancel --state=PENDING "$SLURM_ARRAY_JOB_ID"
  fi
  exit "$code"
}}
trap taskfleet_end EXIT"""
MOST_FAILURES = 3
PAUSE_SECONDS = 60
_FUNCTION = re.compile(r"BASH_FUNC_([\w:.-]+)%%")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def time_limit_minutes(lifetime_seconds: float) -> int:
    """Return the time limit of a job for the lifetime of a machine: whole minutes, rounded down, since budgets have reserved no more."""
    return max(1, math.floor(lifetime_seconds / 60))


def batch_script(
    *,
    token: str,
    folder: Path,
    project: Path,
    command: Sequence[str],
    lifetime_seconds: float,
    instance_type: str,
    partition: str,
    nodes: int = 1,
    before_worker: str = "",
    after_worker: str = "",
    at_end: Sequence[str] = (),
) -> str:
    """Return the script of the machines of a launch request.

    Args:
        token: The request's token.
        folder: Of the request's files.
        project: The project's folder.
        command: Starts a worker.
        lifetime_seconds: The lifetime of a machine.
        instance_type: The type of the machine.
        partition: The partitions of the request.
        nodes: How many nodes a machine has.
        before_worker: The user's lines of bash to run first.
        after_worker: Those to run last.
        at_end: Of machines without a controller: cancels the rest of the array if the job is done; its exit code is 10 if the
            job is not, and the machine ran tasks.
    """
    seconds = min(int(lifetime_seconds), 60 * time_limit_minutes(lifetime_seconds))
    files = shlex.quote(str(folder / token))
    job = f"{files}.job"
    lines = ["#!/bin/bash"]
    if at_end:
        lines += [
            f'export {BEGAN_VARIABLE}=$(date +%s); echo "[taskfleet] began ${BEGAN_VARIABLE}"',
            _AT_END.format(
                command=shlex.join(at_end), files=files, most_failures=MOST_FAILURES, pause_seconds=PAUSE_SECONDS
            ),
        ]
    lines += [
        f"{END_VARIABLE}=$(($(date +%s) + {seconds}))",
        f'[ -e {job} ] || {{ echo "$SLURM_ARRAY_JOB_ID $SLURM_ARRAY_TASK_MAX" > {job}.$$ && mv {job}.$$ {job}; }}',
        f"source {shlex.quote(str(folder / f'{token}.env'))} || exit 1",
        f"export {END_VARIABLE} TASKFLEET_PROVIDER=slurm",
        'export TASKFLEET_MACHINE="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
        f"export TASKFLEET_INSTANCE_TYPE={shlex.quote(instance_type)} TASKFLEET_ZONE={shlex.quote(partition)}",
        f"export {NODES_VARIABLE}={nodes}",
        f"cd {shlex.quote(str(project))} || exit 1",
    ]
    if before_worker:
        lines += ["set -e", before_worker.rstrip(), "set +e"]
    if after_worker or at_end:
        lines += [f"{shlex.join(command)} &", _WAIT, after_worker.rstrip(), 'exit "$code"']
    else:
        lines.append(f"exec {shlex.join(command)}")
    return "\n".join([*lines, ""])


def environment_script(environment: Mapping[str, str]) -> str:
    """Return lines of bash that set an environment; exported functions of bash, such as ``module``, too."""
    lines: list[str] = []
    for name, value in environment.items():
        function = _FUNCTION.fullmatch(name)
        if function and value.startswith("() {"):
            lines += [f"{function[1]} {value}", f"export -f {function[1]}"]
        elif _VARIABLE.fullmatch(name) and (_OF_USERS.fullmatch(name) or not name.startswith(_OF_JOBS)):
            lines.append(f"export {name}={shlex.quote(value)}")
    return "\n".join([*lines, ""])
