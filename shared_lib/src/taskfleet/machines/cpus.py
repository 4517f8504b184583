"""Ranks of processors by release year; each provider has a table of the processors of its types.

The rank is the year in which the processor was released, minus 2000, with one correction (see ``YEARS``): a rough measure of the speed of
a core that needs no benchmark. It is the rank of a core: where two threads share a core (Intel, and AMD before Genoa), a virtual CPU is
half a core.
"""

#: Release years. The first Graviton was released in 2018, but its cores (Arm Cortex-A72) in 2015.
YEARS = {
    "Intel Sandy Bridge": 2012,
    "Intel Ivy Bridge": 2013,
    "Intel Haswell": 2014,
    "Intel Broadwell": 2016,
    "Intel Skylake": 2017,
    "Intel Cascade Lake": 2019,
    "Intel Ice Lake": 2021,
    "Intel Sapphire Rapids": 2023,
    "Intel Emerald Rapids": 2023,
    "Intel Granite Rapids": 2024,
    "AMD EPYC Naples": 2017,
    "AMD EPYC Rome": 2019,
    "AMD EPYC Milan": 2021,
    "AMD EPYC Genoa": 2022,
    "AMD EPYC Turin": 2024,
    "AWS Graviton": 2015,
    "AWS Graviton2": 2019,
    "AWS Graviton3": 2021,
    "AWS Graviton4": 2023,
    "AWS Graviton5": 2025,
    "Ampere Altra": 2020,
    "Google Axion": 2024,
    "Google Axion N3": 2025,
}


def rank_of(cpu: str) -> int:
    """Return the rank of a processor, higher for a faster core; 0 if the processor is unknown."""
    return YEARS[cpu] - 2000 if cpu else 0
