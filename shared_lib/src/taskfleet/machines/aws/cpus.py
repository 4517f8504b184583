"""The processor of each EC2 instance family.

The EC2 API reports the manufacturer and a clock rate, not the processor. The table is taken from
https://docs.aws.amazon.com/ec2/latest/instancetypes/ (a processor for each type) and https://aws.amazon.com/ec2/instance-types/. If a
family runs on two processors, the table has the older one, which is the least that an instance gets.
"""

from taskfleet.machines.cpus import rank_of

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

#: By instance family: the part of a type's name before the dot.
AWS = {family: cpu for cpu, families in _AWS_FAMILIES.items() for family in families.split()}


def cpu_of(type_name: str) -> tuple[str, int]:
    """Return the processor of an instance type such as "m7i.large" and its rank; ("", 0) if it is unknown."""
    cpu = AWS.get(type_name.partition(".")[0], "")
    return cpu, rank_of(cpu)
