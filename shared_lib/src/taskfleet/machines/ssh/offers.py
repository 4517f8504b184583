"""The catalogue of the provider ``ssh``: each host is a type, of which there is one machine at most."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from taskfleet.machine_terms import Host, Market
from taskfleet.machines.catalogue import Catalogue, InstanceType, Price
from taskfleet.machines.disks import DiskType
from taskfleet.machines.needs import Need

#: The zone of all hosts.
ZONE = "ssh"


def ssh_catalogue(need: Need, hosts: Sequence[Host], facts: Mapping[str, Mapping[str, Any]], now: float) -> Catalogue:
    """Return a catalogue of the hosts.

    Args:
        need: The requirements.
        hosts: The best first.
        facts: What hosts have, by their names, see ``on_host.do_check``. The others do not answer, and may later: these get the slots of
            the settings, or one.
        now: Seconds since the epoch.
    """
    types = {one.name: _type_of(need, one, facts.get(one.name), len(hosts) - n) for n, one in enumerate(hosts)}
    return Catalogue(
        provider="ssh",
        regions=(ZONE,),
        fetched_at=now,
        types=types,
        disks=(DiskType(name="", region=ZONE, usd_per_gib_month=0.0),),
        prices={(name, Market.ON_DEMAND): (Price(0.0, ZONE),) for name in types},
    )


def _type_of(need: Need, host: Host, facts: Mapping[str, Any] | None, rank: int) -> InstanceType:
    slots = host.slots or (None if facts else 1)
    cpus = math.ceil(slots * need.cpus_per_task) if slots else int(facts["cpus"]) if facts else 1
    memory_gib = facts["memory_gib"] if facts else cpus * (need.memory_gib_per_task.low or 0.0)
    return InstanceType(
        name=host.name,
        cpus=cpus,
        memory_gib=round(memory_gib, 1),
        architecture=need.architecture,
        cpu_rank=rank,  # the order of the settings
        is_single=True,
    )
