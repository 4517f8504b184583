"""Which CPUs the machine series of Google Cloud have.

The platforms are those of https://cloud.google.com/compute/docs/cpu-platforms. Where a series runs on several, the rank is the
slowest one's, because nobody can know which comes. Ranks are this project's own order of the generations, by core.
"""

#: By series: what the CPU is called, and its rank (higher is faster per core).
GCP: dict[str, tuple[str, int]] = {
    "c2": ("Intel Cascade Lake", 45),
    "c2d": ("AMD Milan", 55),
    "c3": ("Intel Sapphire Rapids", 65),
    "c3d": ("AMD Genoa", 68),
    "c4": ("Intel Emerald Rapids or Granite Rapids", 70),
    "c4a": ("Google Axion", 72),
    "c4d": ("AMD Turin", 80),
    "e2": ("Intel Haswell to Skylake, AMD Rome or Milan", 30),
    "f1": ("Intel Sandy Bridge to Skylake", 20),
    "g1": ("Intel Sandy Bridge to Skylake", 20),
    "h3": ("Intel Sapphire Rapids", 65),
    "h4d": ("AMD Turin", 80),
    "m1": ("Intel Broadwell or Skylake", 35),
    "m2": ("Intel Cascade Lake", 45),
    "m3": ("Intel Ice Lake", 55),
    "m4": ("Intel Emerald Rapids", 70),
    "n1": ("Intel Sandy Bridge to Skylake", 20),
    "n2": ("Intel Cascade Lake or Ice Lake", 45),
    "n2d": ("AMD Rome or Milan", 45),
    "n4": ("Intel Emerald Rapids", 70),
    "n4a": ("Google Axion N3", 68),
    "n4d": ("AMD Turin", 80),
    "t2a": ("Ampere Altra", 45),
    "t2d": ("AMD Milan", 55),
    "x4": ("Intel Sapphire Rapids", 65),
    "z3": ("Intel Sapphire Rapids", 65),
}
#: Series with Arm processors, of which every vCPU is a core.
ARM = frozenset({"t2a", "c4a", "n4a"})


def series_of(type_name: str) -> str:
    """Give a machine type's series: "n2d" of "n2d-standard-8"."""
    return type_name.partition("-")[0]
