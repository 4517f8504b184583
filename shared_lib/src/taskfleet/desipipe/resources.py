"""What a manager's scheduler and provider may be, as desipipe names them."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from taskfleet.errors import UsageError
from taskfleet.machines.slurm.partitions import read_duration
from taskfleet.processes.mpi import NUMBER

LOCAL_OPTIONS = frozenset({"mpiprocs_per_worker", "mpiexec", "stop_after", "timestep", "kwargs"})
CLUSTER_OPTIONS = LOCAL_OPTIONS | {
    "account",
    "constraint",
    "qos",
    "time",
    "nodes_per_worker",
    "output",
    "error",
    "signal",
    "sqs",
    "killed_at_timeout",
    "threshold_nodes",
}
#: The providers whose workers are batch jobs, with what they have if the script does not say otherwise.
CLUSTERS: Mapping[str, Mapping[str, str]] = {
    "slurm": {},
    "nersc": {"account": "desi", "constraint": "cpu", "qos": "regular"},
}
#: The time limit of jobs.
TIME = "01:00:00"
#: Of MPI processes on a node of NERSC, and GPUs.
NERSC_PROCESSES, NERSC_GPUS = 128, 4


class JobShape(NamedTuple):
    """The batch jobs that have the workers of a manager."""

    nodes: int
    workers: int
    """In each job."""


def get_scheduler(scheduler: Any = None) -> dict[str, Any]:
    """Return a scheduler's options: the number of workers.

    Args:
        scheduler: None, ``"simple"`` or a dict with ``max_workers``.

    Raises:
        UsageError: There is no such scheduler or option.
    """
    options = _options(scheduler, "scheduler", "simple")
    name = options.pop("scheduler")
    if name != "simple":
        raise UsageError(f"There is no scheduler {name!r}, only 'simple'.")
    _refuse_others(options, frozenset({"max_workers"}), "the scheduler")
    return {"max_workers": _whole(options, "max_workers", "a number of workers")}


def get_provider(provider: Any = None) -> dict[str, Any]:
    """Return a provider's options, with its name as ``provider``.

    Args:
        provider: None, a name (``local``, ``slurm``, ``nersc``) or a dict with it as ``provider``.

    Raises:
        UsageError: There is no such provider or option, or an option has a wrong value.
    """
    options = _options(provider, "provider", "local")
    name = options["provider"]
    if name != "local" and name not in CLUSTERS:
        raise UsageError(f"There is no provider {name!r}; there are local, {', '.join(CLUSTERS)}.")
    known = CLUSTER_OPTIONS if name in CLUSTERS else LOCAL_OPTIONS
    _refuse_others(options, known | {"provider"}, f"the provider {name}")
    _whole(options, "mpiprocs_per_worker", "a number of MPI processes")
    launcher(options)
    if name in CLUSTERS:
        job_shape(options, 1)
        hours(options)
    return options


def processes(provider: Mapping[str, Any]) -> int:
    """Return the number of MPI processes of a worker."""
    found: int = provider.get("mpiprocs_per_worker", 1)
    return found


def launcher(provider: Mapping[str, Any]) -> str:
    """Return MPI_LAUNCHER for a provider; empty for the default one.

    Raises:
        UsageError: ``mpiexec`` is no command that ends with ``{cmd}``.
    """
    template = provider.get("mpiexec") or ""
    if not template:
        return ""
    words, _, rest = str(template).partition("{cmd}")
    nodes = str(math.ceil(provider.get("nodes_per_worker", 1)))
    for pattern in ("{mpiprocs:d}", "{mpiprocs}"):
        words = words.replace(pattern, NUMBER)
    for pattern in ("{nodes:d}", "{nodes}"):
        words = words.replace(pattern, nodes)
    if rest.strip() or NUMBER not in words:
        raise UsageError(f"mpiexec is {template!r}; it is a command such as 'mpiexec -np {{mpiprocs:d}} {{cmd}}'.")
    return words.strip()


def job_shape(provider: Mapping[str, Any], max_workers: int) -> JobShape:
    """Return the jobs of a cluster's provider: one with several workers if these take parts of a node, else one for each worker.

    Raises:
        UsageError: ``nodes_per_worker`` is no positive number.
    """
    nodes = provider.get("nodes_per_worker", 1)
    if isinstance(nodes, bool) or not isinstance(nodes, int | float) or not 0 < nodes < math.inf:
        raise UsageError(f"nodes_per_worker is {nodes!r}; it is a number of nodes above 0, such as 2 or 0.2.")
    if provider["provider"] == "nersc":
        nodes = max(nodes, processes(provider) / NERSC_PROCESSES)
    if nodes > 0.5:
        return JobShape(math.ceil(nodes), 1)
    return JobShape(1, min(max_workers, math.floor(1 / nodes + 1e-9)))


def hours(provider: Mapping[str, Any]) -> float:
    """Return the time limit of the jobs of a cluster's provider.

    Raises:
        UsageError: It is none.
    """
    text = str(provider.get("time", TIME))
    seconds = read_duration(text)
    if not 0 < seconds < math.inf:
        raise UsageError(f"time is {text!r}; it is a time limit as for sbatch, such as '01:30:00' or '1-12:00:00'.")
    return seconds / 3600


def sbatch_settings(provider: Mapping[str, Any]) -> dict[str, Any]:
    """Return what sbatch gets of a cluster's provider: account, constraint, qos, and ``kwargs`` with other options."""
    found = {**CLUSTERS[provider["provider"]], **{key: value for key, value in provider.items() if value is not None}}
    more = dict(found.get("kwargs") or {})
    if provider["provider"] == "nersc" and found["constraint"] == "gpu":
        found["account"] = f"{str(found['account']).removesuffix('_g')}_g"
        more.setdefault("gpus-per-node", NERSC_GPUS)
    return {
        **{name: found.get(name, "") for name in ("account", "constraint", "qos")},
        "kwargs": more,
    }


def _options(given: Any, key: str, default: str) -> dict[str, Any]:
    if given is None:
        return {key: default}
    if isinstance(given, str):
        return {key: given}
    if isinstance(given, Mapping):
        return {key: default, **given}
    raise UsageError(f"{key} is a name or a dict, not {given!r:.100}.")


def _whole(options: Mapping[str, Any], name: str, what: str) -> int:
    n = options.get(name, 1)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UsageError(f"{name} is {n!r}; it is {what}, at least 1.")
    return n


def _refuse_others(options: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    others = sorted(options.keys() - known)
    if others:
        raise UsageError(f"{what} has no option {', '.join(others)}; it has {', '.join(sorted(known - {'provider'}))}.")
