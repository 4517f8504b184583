"""The CPU of each machine series of Google Cloud.

The CPU platforms are those of https://cloud.google.com/compute/docs/cpu-platforms. If a series runs on several, the table has the oldest,
which is the least that an instance gets.
"""

from taskfleet.machines.cpus import rank_of

#: By series: the name of the CPU; ``machines.cpus`` has the ranks.
GCP: dict[str, str] = {
    "c2": "Intel Cascade Lake",
    "c2d": "AMD EPYC Milan",
    "c3": "Intel Sapphire Rapids",
    "c3d": "AMD EPYC Genoa",
    "c4": "Intel Emerald Rapids",
    "c4a": "Google Axion",
    "c4d": "AMD EPYC Turin",
    "e2": "Intel Haswell",
    "f1": "Intel Sandy Bridge",
    "g1": "Intel Sandy Bridge",
    "h3": "Intel Sapphire Rapids",
    "h4d": "AMD EPYC Turin",
    "m1": "Intel Broadwell",
    "m2": "Intel Cascade Lake",
    "m3": "Intel Ice Lake",
    "m4": "Intel Emerald Rapids",
    "n1": "Intel Sandy Bridge",
    "n2": "Intel Cascade Lake",
    "n2d": "AMD EPYC Rome",
    "n4": "Intel Emerald Rapids",
    "n4a": "Google Axion N3",
    "n4d": "AMD EPYC Turin",
    "t2a": "Ampere Altra",
    "t2d": "AMD EPYC Milan",
    "x4": "Intel Sapphire Rapids",
    "z3": "Intel Sapphire Rapids",
}
#: Series with Arm CPUs, on which each vCPU is a core.
ARM = frozenset({"t2a", "c4a", "n4a"})
#: Series for databases in memory: https://cloud.google.com/compute/docs/memory-optimized-machines
HIGH_MEMORY = frozenset({"x4"})


def is_metal(type_name: str) -> bool:
    """Return whether a machine type is a whole computer: https://cloud.google.com/compute/docs/instances/bare-metal-instances."""
    return type_name.endswith("-metal")


def series_of(type_name: str) -> str:
    """Return the series of a machine type: "n2d" for "n2d-standard-8"."""
    return type_name.partition("-")[0]


def cpu_of(type_name: str) -> tuple[str, int]:
    """Return the processor of a machine type such as "n2d-standard-8" and its rank; ("", 0) if it is unknown."""
    cpu = GCP.get(series_of(type_name), "")
    return cpu, rank_of(cpu)
