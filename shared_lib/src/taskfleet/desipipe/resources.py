"""What a manager's scheduler and provider may be, as desipipe names them."""

from collections.abc import Mapping
from typing import Any

from taskfleet.errors import UsageError

LOCAL_OPTIONS = frozenset({"mpiprocs_per_worker", "mpiexec", "stop_after", "timestep", "kwargs"})
#: Those of clusters, which scripts may have; see ``require_local``.
CLUSTERS = ("slurm", "nersc")


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
    n = options.get("max_workers", 1)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UsageError(f"max_workers is {n!r}; it is a number of workers, at least 1.")
    return {"max_workers": n}


def get_provider(provider: Any = None) -> dict[str, Any]:
    """Return a provider's options, with its name as ``provider``.

    Args:
        provider: None, a name (``local``, ``slurm``, ``nersc``) or a dict with it as ``provider``.

    Raises:
        UsageError: There is no such provider or option.
    """
    options = _options(provider, "provider", "local")
    name = options["provider"]
    if name in CLUSTERS:
        return options
    if name != "local":
        raise UsageError(f"There is no provider {name!r}; there are local, {', '.join(CLUSTERS)}.")
    _refuse_others(options, LOCAL_OPTIONS | {"provider"}, "the provider local")
    if options.get("mpiprocs_per_worker", 1) != 1:
        raise UsageError(
            "mpiprocs_per_worker is not supported: a worker is no MPI process. Call mpiexec in a bash app: "
            "return ['mpiexec', '-np', 4, …]."
        )
    return options


def require_local(provider: Mapping[str, Any]) -> None:
    """Check that this computer is the provider.

    Raises:
        UsageError: It is a cluster.
    """
    if provider["provider"] in CLUSTERS:
        raise UsageError(
            f"provider={provider['provider']!r}: Slurm is not supported yet. To run the tasks here, or inside a job of yours "
            "(sbatch, salloc), use provider='local'."
        )


def _options(given: Any, key: str, default: str) -> dict[str, Any]:
    if given is None:
        return {key: default}
    if isinstance(given, str):
        return {key: given}
    if isinstance(given, Mapping):
        return {key: default, **given}
    raise UsageError(f"{key} is a name or a dict, not {given!r:.100}.")


def _refuse_others(options: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    others = sorted(options.keys() - known)
    if others:
        raise UsageError(f"{what} has no option {', '.join(others)}; it has {', '.join(sorted(known - {'provider'}))}.")
