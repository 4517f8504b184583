"""The catalogue of the provider ``local``: this computer, at no cost."""

import os
import platform
from dataclasses import replace

from taskfleet.machine_terms import Market, Range
from taskfleet.machines.catalogue import Catalogue, InstanceType, Price
from taskfleet.machines.disks import DiskType
from taskfleet.machines.local.machines import INSTANCE_TYPE
from taskfleet.machines.needs import Need
from taskfleet.machines.shared_files import architecture_here, need_of_known_computers
from taskfleet.processes.identity import available_cpus, hostname


def local_catalogue(need: Need, now: float) -> Catalogue:
    """Return a catalogue with one type: this computer, or the part of it that a machine may use at most."""
    cpus, memory_gib = available_cpus(), _memory_gib()
    wanted = min(cpus, max(1, round((need.tasks_per_machine.high or cpus) * need.cpus_per_task)))
    kind = InstanceType(
        name=INSTANCE_TYPE,
        cpus=wanted,
        memory_gib=round(memory_gib * wanted / cpus, 1),
        architecture=architecture_here(),
        cpu_family=platform.processor(),
    )
    zone = hostname()
    return Catalogue(
        provider="local",
        regions=(zone,),
        fetched_at=now,
        types={kind.name: kind},
        disks=(DiskType(name="", region=zone, usd_per_gib_month=0.0),),
        prices={(kind.name, Market.ON_DEMAND): (Price(0.0, zone),)},
    )


def local_need(need: Need) -> Need:
    """Return a need without the requirements that do not apply here, with all machines limited to this computer."""
    return replace(need_of_known_computers(need), shared_cpus=Range(None, available_cpus()))


def _memory_gib() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):
        return 8.0
