"""Which processor a type of machine has, by the family its name begins with, and which are the faster ones.

The providers' interfaces tell the maker and a clock rate, not the processor, so it stands here. Sources are the makers' and providers' own
pages: https://docs.aws.amazon.com/ec2/latest/instancetypes/ (a processor for each type) and https://aws.amazon.com/ec2/instance-types/ for
the table ``AWS``. Where a family runs on one of two processors, the older one is named: that is what is sure to be had.

A rank is the year in which the maker brought the processor out, less 2000, with one correction (see ``YEARS``). So it is a rough measure of
a core's speed that nobody's benchmark is needed for, and equal for what came out in the same year. It is of a core: where two threads
share one (Intel, and AMD before Genoa), a virtual CPU is half of it.
"""

from taskfleet.machines.gcp_cpus import GCP

#: When each came out. The first Graviton is of 2018, but its cores (Arm Cortex-A72) are of 2015.
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

_AWS_FAMILIES = {
    "Intel Sandy Bridge": "m3",
    "Intel Ivy Bridge": "c3 i2 r3",
    "Intel Haswell": "c4 d2 m4 t2 x1 x1e",
    "Intel Broadwell": "h1 i3 r4",
    "Intel Skylake": "c5 c5d c5n i3en m5 m5d p3dn r5 r5d t3 u-3tb1 u-6tb1 z1d",
    "Intel Cascade Lake": "d3 d3en dl2q g4dn inf1 m5dn m5n m5zn p4d p4de r5b r5dn r5n vt1 x2iezn",
    "Intel Ice Lake": "c6i c6id c6in hpc6id i4i m6i m6id m6idn m6in r6i r6id r6idn r6in trn1 trn1n x2idn x2iedn",
    "Intel Sapphire Rapids": (
        "c7i c7i-flex m7i m7i-flex p5en r7i r7iz trn2 trn2u u7i-12tb u7i-6tb u7i-8tb u7in-16tb u7in-24tb u7in-32tb"
    ),
    "Intel Emerald Rapids": "g7e i7i i7ie p6-b200 p6-b300",
    "Intel Granite Rapids": (
        "c8i c8i-flex c8ib c8id c8in c8ine m8i m8i-flex m8ib m8id m8idb m8idn m8in m8ine "
        "r8i r8i-flex r8ib r8id r8idb r8idn r8in x8i"
    ),
    "AMD EPYC Naples": "m5a m5ad r5a r5ad t3a",
    "AMD EPYC Rome": "c5a c5ad g4ad g5",
    "AMD EPYC Milan": "c6a f2 g6 g6e g6f gr6 gr6f hpc6a inf2 m6a p5 p5e r6a",
    "AMD EPYC Genoa": "c7a hpc7a m7a r7a",
    "AMD EPYC Turin": "c8a hpc8a m8a m8azn r8a x8aedz",
    "AWS Graviton": "a1",
    "AWS Graviton2": "c6g c6gd c6gn g5g i4g im4gn is4gen m6g m6gd r6g r6gd t4g x2gd",
    "AWS Graviton3": "c7g c7gd c7gn hpc7g m7g m7gd r7g r7gd",
    "AWS Graviton4": "c8g c8gb c8gd c8gn i8g i8ge m8g m8gb m8gd m8gn r8g r8gb r8gd r8gn x8g",
    "AWS Graviton5": "c9g c9gd m9g m9gd r9g r9gd",
}

#: By what stands before the point of a type's name.
AWS = {family: cpu for cpu, families in _AWS_FAMILIES.items() for family in families.split()}

#: A provider's table, and what ends the family in its types' names.
_PROVIDERS: dict[str, tuple[dict[str, str], str]] = {"aws": (AWS, "."), "gcp": (GCP, "-")}


def cpu_of(provider: str, type_name: str) -> tuple[str, int]:
    """Give the processor of a type of machine and its rank, higher for a faster core; ("", 0) if it is not known.

    Args:
        provider: Such as "aws".
        type_name: As the provider calls it, such as "m7i.large".
    """
    table, separator = _PROVIDERS.get(provider, ({}, "."))
    cpu = table.get(type_name.partition(separator)[0], "")
    return (cpu, YEARS[cpu] - 2000) if cpu else ("", 0)
