"""Which CPUs the machine series of Google Cloud have.

The platforms are those of https://cloud.google.com/compute/docs/cpu-platforms. Where a series runs on several, the oldest is named:
that is what is sure to be had. Ranks are this project's own order of the generations, by core.
"""

#: By series: what the CPU is called, and its rank (higher is faster per core).
GCP: dict[str, tuple[str, int]] = {
    "c2": ("Intel Cascade Lake", 45),
    "c2d": ("AMD EPYC Milan", 55),
    "c3": ("Intel Sapphire Rapids", 65),
    "c3d": ("AMD EPYC Genoa", 68),
    "c4": ("Intel Emerald Rapids", 70),
    "c4a": ("Google Axion", 72),
    "c4d": ("AMD EPYC Turin", 80),
    "e2": ("Intel Haswell", 30),
    "f1": ("Intel Sandy Bridge", 20),
    "g1": ("Intel Sandy Bridge", 20),
    "h3": ("Intel Sapphire Rapids", 65),
    "h4d": ("AMD EPYC Turin", 80),
    "m1": ("Intel Broadwell", 35),
    "m2": ("Intel Cascade Lake", 45),
    "m3": ("Intel Ice Lake", 55),
    "m4": ("Intel Emerald Rapids", 70),
    "n1": ("Intel Sandy Bridge", 20),
    "n2": ("Intel Cascade Lake", 45),
    "n2d": ("AMD EPYC Rome", 45),
    "n4": ("Intel Emerald Rapids", 70),
    "n4a": ("Google Axion N3", 68),
    "n4d": ("AMD EPYC Turin", 80),
    "t2a": ("Ampere Altra", 45),
    "t2d": ("AMD EPYC Milan", 55),
    "x4": ("Intel Sapphire Rapids", 65),
    "z3": ("Intel Sapphire Rapids", 65),
}
#: Series with Arm processors, of which every vCPU is a core.
ARM = frozenset({"t2a", "c4a", "n4a"})


def series_of(type_name: str) -> str:
    """Give a machine type's series: "n2d" of "n2d-standard-8"."""
    return type_name.partition("-")[0]
