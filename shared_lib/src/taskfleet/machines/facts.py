"""What a worker knows of the machine that it runs on: its type, from the metadata service, and what the pool knows of that type.

The start-up script has the pool's offers in a variable, because a machine cannot find out its price, and one launch request may have many
types. The variable is short, since scripts have a size limit: the facts of offers beyond it are unknown on their machines.
"""

import logging
from collections.abc import Iterable, Mapping
from http.client import HTTPException

from taskfleet.machine_terms import Market
from taskfleet.machines.choosing import Offer
from taskfleet.machines.notice import MachineIdentity, Watcher
from taskfleet.machines.provider import watcher_here
from taskfleet.processes.identity import MACHINE_VARIABLE
from taskfleet.tasks import JSON

logger = logging.getLogger(__name__)

#: Entries ``TYPE,MARKET,MEMORY,SSD,DISK,ZONE=USD,ZONE=USD…``, separated by spaces; sizes are in GiB, prices per hour.
OFFERS_VARIABLE = "TASKFLEET_OFFERS"
MAX_CHARACTERS = 300


def pack_offers(offers: Iterable[Offer]) -> str:
    """Return the value of OFFERS_VARIABLE for the machines of a launch request."""
    entries: dict[str, str] = {}
    for one in offers:
        sizes = (one.memory_gib, one.local_ssd_gib, one.boot_disk_gib)
        start = ",".join([one.instance_type, one.market, *(f"{size:g}" for size in sizes)])
        entry = f"{entries.get(start, start)},{one.zone}={one.usd_per_hour:.4g}"
        if len(" ".join({**entries, start: entry}.values())) > MAX_CHARACTERS:
            break
        entries[start] = entry
    return " ".join(entries.values())


def facts_here(environ: Mapping[str, str]) -> dict[str, JSON]:
    """Return what is known of the machine of this process, by the names of ``WorkerData``; nothing outside of a cloud's pool."""
    watcher = watcher_here(environ)
    if watcher is None:
        return {}
    facts: dict[str, JSON] = {"provider": environ["TASKFLEET_PROVIDER"].upper()}
    found = _identity(watcher) if OFFERS_VARIABLE in environ else None
    if found is None:
        return facts
    offered = _offered(environ[OFFERS_VARIABLE], found.instance_type, found.zone)
    return facts | {"instance_type": found.instance_type} | offered


def machine_here(environ: Mapping[str, str]) -> str | None:
    """Return the provider's name of the pool machine of this process, also if its start-up script is the user's; None outside of a pool."""
    if name := environ.get(MACHINE_VARIABLE):
        return name
    watcher = watcher_here(environ)
    found = None if watcher is None else _identity(watcher)
    return None if found is None else found.name


def _identity(watcher: Watcher) -> MachineIdentity | None:
    try:
        return watcher.find_identity()
    except (OSError, HTTPException) as error:
        logger.info("The metadata service does not describe this machine: %s", error)
        return None


def _offered(text: str, instance_type: str, zone: str) -> dict[str, JSON]:
    for entry in text.split():
        name, market, memory, ssd, disk, *prices = entry.split(",")
        if name != instance_type:
            continue
        usd = dict(one.split("=") for one in prices).get(zone)
        return {
            "is_spot": market == Market.SPOT,
            "memory_gb": float(memory),
            "local_ssd_gb": float(ssd),
            "boot_disk_gb": float(disk),
            "price_per_hour": None if usd is None else float(usd),
        }
    return {}
