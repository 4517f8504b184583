"""Command lines that start several processes: by ``srun`` inside a Slurm job, by ``mpiexec`` elsewhere, or as the user says."""

import math
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence

from taskfleet.errors import UsageError
from taskfleet.processes import lifeline

#: The number of processes in MPI_LAUNCHER.
NUMBER = "{n}"
#: The launcher in the command that a function returns.
LAUNCHER = "{mpi}"
#: Of the job's batch script; srun would take them for options of its own.
_OF_SCRIPT = ("SLURM_CPU_BIND", "SLURM_MEM_PER_", "SLURM_NTASKS", "SLURM_TASKS_PER_NODE", "SLURM_CPUS_PER_TASK")
_OF_SCRIPT_EXACTLY = ("SLURM_NPROCS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_DISTRIBUTION", "SLURM_EXACT")
#: Of a process that MPI has started; what it starts would take itself for the same one.
_OF_RANK = ("PMI_", "PMI2_", "PMIX_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_SIZE")
#: The worker counts its slots, so Open MPI must neither count cores nor give the same ones to several tasks.
_LOCAL = {
    "OMPI_MCA_rmaps_base_oversubscribe": "true",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
#: The tasks of a container's or cloud machine's root run as root, too.
_LOCAL_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def is_in_slurm_job(environ: Mapping[str, str]) -> bool:
    """Return whether this process is one of a Slurm job, so that srun starts others on its nodes."""
    return "SLURM_JOB_ID" in environ and shutil.which("srun") is not None


def launcher(n: int, *, slots: int, template: str, environ: Mapping[str, str]) -> list[str]:
    """Return the beginning of a command line that runs the rest as ``n`` processes.

    Args:
        n: The number of processes.
        slots: The worker's; in a Slurm job, a process gets the share of the job's CPUs that a slot has.
        template: MPI_LAUNCHER, or an empty text.
        environ: The environment that the command will have.

    Raises:
        UsageError: There is no launcher.
    """
    clean = ["-u" + name for name in environ if name.startswith(_OF_RANK) and not name.startswith("PMIX_MCA_")]
    if template:
        words = [word.replace(NUMBER, str(n)) for word in shlex.split(template)]
    elif is_in_slurm_job(environ):
        words = ["srun", *_srun_options(n, slots, environ)]
    else:
        if shutil.which("mpiexec") is None:
            raise UsageError(
                "There is no mpiexec here to start MPI processes with. Install an MPI (Debian: openmpi-bin; conda: openmpi), load the "
                "site's module in the script of BEFORE_WORKER, or set MPI_LAUNCHER in config/task.env."
            )
        own = {**_LOCAL, **(_LOCAL_ROOT if hasattr(os, "geteuid") and os.geteuid() == 0 else {})}
        clean += [f"{name}={value}" for name, value in own.items() if name not in environ]
        words = ["mpiexec", "-np", str(n)]
    if words[:1] == ["srun"]:
        clean += ["-u" + name for name in environ if name.startswith(_OF_SCRIPT) or name in _OF_SCRIPT_EXACTLY]
    return ["env", *clean, *words] if clean else words


def program_of(words: Sequence[str]) -> str:
    """Return the program that a command line runs, which may begin as those of ``launcher`` do."""
    others = (word for word in words[1:] if "=" not in word and not word.startswith("-"))
    return next(others, words[0]) if words[0] == "env" else words[0]


def attached(address: str) -> list[str]:
    """Return words between launcher and command that end the processes when the owner of a lifeline ends; see ``lifeline``."""
    return [sys.executable, "-I", "-S", lifeline.__file__, address]


def spans_hosts(template: str, environ: Mapping[str, str]) -> bool:
    """Return whether processes may be started on other hosts."""
    return bool(template) or is_in_slurm_job(environ)


def expand(command: object, words: Callable[[], list[str]]) -> object:
    """Return a command, a text or a list, with ``{mpi}`` replaced by the words of a launcher."""
    if isinstance(command, str):
        return command.replace(LAUNCHER, shlex.join(words())) if LAUNCHER in command else command
    if isinstance(command, list | tuple):
        return [part for one in command for part in (words() if one == LAUNCHER else [one])]
    return command


def _srun_options(n: int, slots: int, environ: Mapping[str, str]) -> list[str]:
    nodes = int(environ.get("SLURM_JOB_NUM_NODES") or 1)
    cpus_of_node = int(environ.get("SLURM_CPUS_ON_NODE") or os.cpu_count() or 1)
    cpus_per_process = max(1, nodes * cpus_of_node // slots)
    per_node = max(1, max(cpus_of_node, slots // nodes) // cpus_per_process)
    fewest = min(nodes, math.ceil(n / per_node))
    return [
        "--quiet",
        *(["--exact"] if slots <= nodes * cpus_of_node else ["--overlap", "--overcommit"]),
        "--kill-on-bad-exit=1",
        f"--nodes={fewest}-{nodes}" if fewest < nodes else f"--nodes={nodes}",
        f"--ntasks={n}",
        f"--cpus-per-task={cpus_per_process}",
        "--cpu-bind=cores",
        "--export=ALL",
    ]
