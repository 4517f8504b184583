"""A step of the pool's controller, for 1,000 machines and 1,000,000 tasks: how long, in how much memory.

uv run --group benchmarks python benchmarks/controller.py [--machines 1000] [--tasks 1000000] [--steps 20]

The provider is a list in memory, so that what is measured is the controller, its plan and the ledger; a real provider's answer comes on
top. One machine in fifty ends before each step and is replaced in it. Beside it, in the same run: choosing over a whole provider's offers.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from taskfleet.ledger import insertion, leasing
from taskfleet.ledger.database import create
from taskfleet.machine_terms import Architecture, Market, Range
from taskfleet.machines import EndReason, LaunchedMachine, LaunchResult, Machine, MachineState
from taskfleet.machines.catalogue import InstanceType, make_catalogue
from taskfleet.machines.choosing import Offer, choose
from taskfleet.machines.disks import DiskType
from taskfleet.machines.needs import Need
from taskfleet.pool import records
from taskfleet.pool.controller import Controller
from taskfleet.pool.job_state import LedgerJobState
from taskfleet.pool.planning import Limits


class Provider:
    """Has every machine at once."""

    name = "memory"

    def __init__(self):
        self.there = {}

    def launch(self, order):
        """See ``Machines.launch``."""
        offer = order.offers[0]
        for token in order.tokens:
            self.there[token] = Machine(
                instance_id=token,
                order=order.token,
                state=MachineState.RUNNING,
                zone=offer.zone,
                instance_type=offer.instance_type,
                market=offer.market,
            )
        return LaunchResult(tuple(LaunchedMachine(token, offer.instance_type, offer.zone) for token in order.tokens))

    def list(self):
        """See ``Machines.list``."""
        return list(self.there.values())

    def terminate(self, instance_ids):
        """See ``Machines.terminate``."""
        for name in instance_ids:
            self.there.pop(name, None)

    def console(self, _):
        """See ``Machines.console``."""
        return ""

    def clear(self):
        """See ``Machines.clear``."""
        return {}


def resident_mib():
    """Give the memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure_choice(chance, rounds=7):
    """Choose among every type, zone and market of a provider as big as AWS with all its regions."""
    zones = [f"{region}{letter}" for region in (f"us-east-{n}" for n in range(1, 31)) for letter in "abc"]
    kinds = [
        InstanceType(
            name=f"c{n}.large",
            cpus=2 ** (n % 7 + 1),
            memory_gib=2.0 ** (n % 7 + 1) * chance.choice([2, 4, 8]),
            architecture=chance.choice(list(Architecture)),
            cpu_family="Intel Sapphire Rapids",
            cpu_rank=chance.randrange(15, 26),
            is_burstable=chance.random() < 0.05,
        )
        for n in range(900)
    ]
    prices = [
        (kind.name, market, zone, kind.cpus * chance.uniform(0.01, 0.05))
        for kind in kinds
        for market in Market
        for zone in zones
    ]
    catalogue = make_catalogue(
        provider="aws",
        regions=sorted({zone[:-1] for zone in zones}),
        fetched_at=0.0,
        types=kinds,
        disks=[
            DiskType(name="gp3", region=region, usd_per_gib_month=0.08)
            for region in sorted({zone[:-1] for zone in zones})
        ],
        prices=prices,
    )
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        choose(Need(architecture=Architecture.X86_64, memory_gib_per_task=Range(2.0, None)), catalogue)
        seconds.append(time.perf_counter() - began)
    print(f"choosing among {catalogue.offer_count:,} offers: median {1000 * statistics.median(seconds):.1f} ms")


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    chance = random.Random(1)
    measure_choice(chance)
    with tempfile.TemporaryDirectory() as folder:
        now = 1_000_000.0
        database = create(Path(folder) / "job.db", job_id="job", project=Path(folder), now=now)
        under_way = insertion.begin(database, source="benchmark")
        for first in range(0, arguments.tasks, 10_000):
            names = [f"t{n}" for n in range(first, min(first + 10_000, arguments.tasks))]
            under_way.add(names, ["{}"] * len(names), ids_are_derived=False, now=now)
        under_way.accept(now)
        offers = [
            Offer(
                instance_type=f"type{n}",
                zone="us-east-1a",
                market=Market.SPOT,
                usd_per_slot_hour=0.01 + n / 1e6,
                usd_per_hour=0.16,
                machine_usd_per_hour=0.15,
                slots=16,
                boot_disk_type="gp3",
                boot_disk_gib=20.0,
                cpus=16,
                memory_gib=64.0,
            )
            for n in range(500)
        ]
        provider = Provider()
        controller = Controller(
            database,
            provider,
            LedgerJobState(database),
            name="job",
            offers=offers,
            limits=Limits(max_machines=arguments.machines),
            say=lambda _: None,
        )
        before_mib = resident_mib()
        known = set()

        def hear(now):
            for token in provider.there.keys() - known:
                worker = leasing.register(
                    database, hostname=token, process=token, pid=1, slots=16, lease_seconds=1e9, now=now, machine=token
                )
                database.execute("UPDATE worker SET busy_seconds = 1 WHERE worker_id = ?", (worker,))
                known.add(token)
            database.execute("UPDATE worker SET seen_at = ? WHERE ended_at IS NULL", (now,))

        while len(provider.there) < arguments.machines:
            now += 10
            controller.step(now)
            hear(now)
        seconds = []
        for _ in range(arguments.steps):
            now += 10
            hear(now)
            for token in chance.sample(sorted(provider.there), arguments.machines // 50):
                machine = provider.there.pop(token)
                provider.there[token] = Machine(
                    instance_id=token,
                    order=machine.order,
                    state=MachineState.ENDED,
                    zone=machine.zone,
                    instance_type=machine.instance_type,
                    market=machine.market,
                    end_reason=EndReason.PREEMPTED,
                )
            began = time.perf_counter()
            controller.step(now)
            seconds.append(time.perf_counter() - began)
            for token in [name for name, one in provider.there.items() if one.state is MachineState.ENDED]:
                del provider.there[token]
        there = len(records.open_machines(database))
        print(
            f"{there:,} machines, {arguments.tasks:,} tasks, {arguments.steps} steps that replace {arguments.machines // 50} each:"
        )
        print(f"  a step: median {1000 * statistics.median(seconds):.1f} ms, longest {1000 * max(seconds):.1f} ms")
        print(
            f"  memory: {resident_mib():.0f} MiB, {resident_mib() - before_mib:.0f} of them since the ledger was open"
        )
        database.close()


if __name__ == "__main__":
    main()
