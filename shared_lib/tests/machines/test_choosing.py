"""The choice equals that of an exhaustive search, and has its reasons."""

import itertools
import json
import math
import random

import pytest
from taskfleet.errors import CatalogueError
from taskfleet.machine_terms import ANY, Hardware, Range
from taskfleet.machines.catalogue import Architecture, InstanceType, Market, load, make_catalogue, save
from taskfleet.machines.choosing import choose
from taskfleet.machines.constraints import Constraint
from taskfleet.machines.disks import Disk, DiskLimits, DiskType
from taskfleet.machines.needs import Need

X86, ARM = Architecture.X86_64, Architecture.ARM64
SPOT, ON_DEMAND = Market.SPOT, Market.ON_DEMAND
PLAIN = DiskType(name="plain", region="east", usd_per_gib_month=0.08)


def kind(name="m.large", cpus=4, memory_gib=16.0, **more):
    return InstanceType(name=name, cpus=cpus, memory_gib=memory_gib, **{"architecture": X86, **more})


def catalogue(*priced, disks=(PLAIN,), regions=("east",)):
    """Return a catalogue of (type, on-demand USD per hour in east-a)."""
    return make_catalogue(
        provider="test",
        regions=regions,
        fetched_at=0.0,
        types=[one for one, _ in priced],
        disks=disks,
        prices=[(one.name, ON_DEMAND, "east-a", usd) for one, usd in priced],
    )


def need(**more):
    return Need(**{"architecture": X86, "markets": (ON_DEMAND,), **more})


def test_the_least_price_per_task_wins_not_the_least_price():
    choice = choose(need(), catalogue((kind("small", 1, 4), 0.05), (kind("big", 16, 64), 0.5)))
    assert choice.best.instance_type == "big"
    assert choice.best.slots == 16
    assert choice.best.usd_per_slot_hour == pytest.approx((0.5 + 10 * 0.08 / 730) / 16)


def test_the_boot_disk_counts():
    large = need(boot_disk_gib=5000)
    assert choose(large, catalogue((kind("small", 1, 4), 0.03), (kind("big", 16, 64), 0.8))).best.instance_type == "big"
    assert (
        choose(need(), catalogue((kind("small", 1, 4), 0.03), (kind("big", 16, 64), 0.8))).best.instance_type == "small"
    )


@pytest.mark.parametrize("price", [0, 0.0, None, -1.0, math.nan, math.inf])
def test_an_invalid_price_is_never_chosen(price):
    choice = choose(need(), catalogue((kind("free"), price), (kind("paid"), 1.0)))
    assert [one.instance_type for one in choice.ranked] == ["paid"]
    [rejection] = choice.rejected["free"]
    assert (rejection.constraint, str(rejection)) == (Constraint.PRICED, "price: no valid price (on-demand)")


def test_of_two_equally_expensive_offers_the_faster_is_taken():
    choice = choose(need(), catalogue((kind("slow", cpu_rank=40), 1.0), (kind("fast", cpu_rank=60), 1.0)))
    assert choice.best.instance_type == "fast"


@pytest.mark.parametrize(
    ("asked", "misfit", "reason"),
    [
        ({}, {"architecture": ARM}, "architecture: arm64, the image needs x86_64"),
        ({}, {"is_burstable": True}, "burstable"),
        ({"instance_types": ("m.*", "c.*")}, {"name": "x.large"}, "instance types: not one of m.*, c.*"),
        ({"cpu_families": ("*ice lake*",)}, {"cpu_family": "AMD Rome"}, "CPU family: AMD Rome"),
        ({"cpu_rank": Range(50)}, {"cpu_rank": 49}, "CPU rank: 49, required is at least 50"),
        ({"cpus": Range(4, 8)}, {"cpus": 16}, "CPUs: 16, required is at least 4 and at most 8"),
        ({"memory_gib": Range(None, 16)}, {"memory_gib": 16.5}, "memory: 16.5, required is at most 16"),
        ({"memory_gib_per_cpu": Range(4)}, {"memory_gib": 15.0}, "memory per CPU: 3.75"),
        ({"local_ssd_gib": Range(100)}, {}, "local SSD: 0, required is at least 100"),
        ({"memory_gib_per_task": Range(20)}, {}, "memory per task: 16 GiB"),
        ({"cpus_per_task": 5}, {}, "CPUs per task: 4, required are 5"),
        ({"tasks_per_machine": Range(5)}, {}, "tasks per machine: at most 4"),
        ({"price_usd_per_hour": Range(None, 0.5)}, {}, "number of machines: the limits allow no machine of this type"),
        ({"zones": ("west-*",)}, {}, "zone: not offered in the required zones"),
        ({"boot_disk_iops": 1000}, {}, "boot disk: plain: 1,000 IOPS are required, 10 GiB have 0"),
        ({"exclude_instance_types": ("m.*",)}, {}, "excluded instance types: one of m.*"),
        ({}, {"hardware": (Hardware.METAL,)}, "special hardware: metal, chosen only if requested (SPECIAL_HARDWARE)"),
    ],
)
def test_each_rejected_type_has_its_reason(asked, misfit, reason):
    choice = choose(need(**asked), catalogue((kind(**misfit), 1.0)))
    assert choice.best is None
    [[said, *_]] = choice.rejected.values()
    assert str(said).startswith(reason)
    assert "1 type would fit" in choice.no_fit_text()


def test_burstable_types_are_taken_when_requested():
    assert choose(need(allow_burstable=True), catalogue((kind(is_burstable=True), 1.0))).best


def test_what_excludes_most_is_reported():
    types = [(kind(f"m{n}", cpus=n), 1.0) for n in range(1, 9)] + [(kind("arm", cpus=9, architecture=ARM), 1.0)]
    said = choose(need(cpus=Range(9), memory_gib=Range(1)), catalogue(*types)).no_fit_text()
    assert said == (
        "None of 9 instance types fits. The constraint that excludes most is: CPUs (8). "
        "Without the constraint on CPUs, 8 types would fit."
    )


@pytest.mark.parametrize(
    ("asked", "count", "limited_by"),
    [
        ({"machines": Range(1, 7)}, 7, Constraint.MACHINES),
        ({"machines": Range(1, 70), "total_cpus": Range(None, 15)}, 3, Constraint.TOTAL_CPUS),
        ({"machines": Range(1, 70), "simultaneous_tasks": Range(None, 10)}, 2, Constraint.SIMULTANEOUS_TASKS),
        ({"machines": Range(1, 70), "price_usd_per_hour": Range(None, 5.5)}, 5, Constraint.PRICE),
        ({"machines": Range(1, 70), "tasks": 9}, 3, Constraint.TASKS),
        ({"machines": Range(5, 70), "tasks": 9}, 5, Constraint.TASKS),
    ],
)
def test_the_most_constraining_limit_decides_the_number(asked, count, limited_by):
    choice = choose(need(**asked), catalogue((kind(), 1.0)))
    assert (choice.count, choice.limited_by) == (count, limited_by)


def test_fewer_slots_are_used_if_only_so_the_numbers_meet():
    choice = choose(need(simultaneous_tasks=Range(6, 6), machines=Range(1, 10)), catalogue((kind(cpus=4), 1.0)))
    assert (choice.best.slots, choice.count) == (3, 2)


@pytest.mark.parametrize(
    ("tasks", "hours_per_task", "chosen"),
    [
        (None, None, "huge"),
        (100_000, 1.0, "huge"),
        (3, None, "small"),
        (100_000, 0.004 / 3600, "small"),  # 400 s of work: a machine takes two minutes to start
        (3, 0.004 / 3600, "small"),
    ],
)
def test_no_machine_is_far_larger_than_the_work(tasks, hours_per_task, chosen):
    types = catalogue((kind("small", 4, 16), 0.2), (kind("huge", 384, 1536), 18.0))
    choice = choose(
        need(tasks=tasks, hours_per_task=hours_per_task, price_usd_per_hour=Range(None, 100), machines=Range(1, 5)),
        types,
    )
    assert choice.best.instance_type == chosen
    assert [one.rank_key for one in choice.ranked] == sorted(one.rank_key for one in choice.ranked)


@pytest.mark.parametrize("hardware", list(Hardware))
def test_special_hardware_is_chosen_on_request_only(hardware):
    types = catalogue((kind("plain"), 1.0), (kind("special", hardware=(hardware,)), 0.1))
    assert choose(need(), types).best.instance_type == "plain"
    assert choose(need(instance_types=("s*", "p*")), types).best.instance_type == "plain"
    assert choose(need(instance_types=("special",)), types).best.instance_type == "special"
    assert choose(need(special_hardware=(hardware,)), types).best.instance_type == "special"


def test_a_machine_with_two_kinds_of_special_hardware_needs_both():
    types = catalogue((kind("special", hardware=(Hardware.GPU, Hardware.METAL)), 0.1))
    assert choose(need(special_hardware=(Hardware.GPU,)), types).best is None
    assert choose(need(special_hardware=(Hardware.GPU, Hardware.METAL)), types).best


@pytest.mark.parametrize(
    ("asked", "note"),
    [
        ({"instance_types": ("m.*", "x*")}, "INSTANCE_TYPES: no instance type matches x*."),
        (
            {"instance_types": ("m.*", "m.l.*")},
            "INSTANCE_TYPES: no instance type matches m.l.*. It is a pattern with * and ?, not a regular expression: write m?l*.",
        ),
        ({"exclude_instance_types": ("x*",)}, "EXCLUDE_INSTANCE_TYPES: no instance type matches x*."),
        ({"zones": ("east-?", "west-a")}, "ZONES: no zone matches west-a."),
        (
            {"boot_disk_types": ("plain", "st1")},
            "BOOT_DISK_TYPES: no machine of test can boot from st1; the types are plain.",
        ),
    ],
)
def test_a_pattern_that_matches_nothing_is_reported(asked, note):
    choice = choose(need(**asked), catalogue((kind(), 1.0)))
    assert choice.best
    assert choice.notes == (note,)


def test_a_pattern_that_matches_nothing_is_part_of_the_error_if_nothing_fits():
    choice = choose(need(instance_types=("x*",), cpu_families=("*Epyc*",)), catalogue((kind(), 1.0)))
    assert choice.best is None
    assert "INSTANCE_TYPES: no instance type matches x*." in choice.no_fit_text()
    assert "CPU_FAMILIES: no CPU family matches *epyc*." in choice.no_fit_text()


def test_an_impossible_disk_is_part_of_the_error():
    fast = DiskType(
        name="fast",
        region="east",
        usd_per_gib_month=0.1,
        usd_per_iops_month=0.01,
        limits=DiskLimits(free_iops=3000, min_iops=3000, orders_iops=True, max_iops_per_gib=500),
    )
    choice = choose(need(boot_disk_iops=16_000), catalogue((kind(), 1.0), disks=(fast,)))
    assert choice.no_fit_text().endswith(
        "Boot disks: fast: 16,000 IOPS need a disk of 32 GiB or more (500 IOPS per GiB), and the boot disk has 10 GiB."
    )


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "m.large\x1b[2J"},
        {"name": ""},
        {"name": "m" * 500},
        {"cpus": 0},
        {"cpus": -4},
        {"cpus": 10**9},
        {"memory_gib": 0.0},
        {"memory_gib": math.nan},
        {"memory_gib": math.inf},
        {"local_ssd_gib": math.nan},
    ],
)
def test_a_type_with_impossible_figures_is_not_in_the_catalogue(broken):
    found = catalogue((kind(**broken), 1.0), (kind("paid"), 1.0))
    assert list(found.types) == ["paid"]
    assert [name for name, _ in found.prices] == ["paid"]


HOSTILE = [None, True, -1, 0, 10**30, math.nan, math.inf, "", "x" * 300, "\x1b[31m", [], {}, [[1]], {"a": 1}]


def spoil(chance, node):
    """Replace a part of parsed JSON."""
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = chance.choice(list(keys))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.2:
            if isinstance(node, dict) and chance.random() < 0.2:
                del node[key]
            else:
                node[key] = chance.choice(HOSTILE)
            return
        node = inner


def test_a_spoiled_catalogue_is_an_error_or_harmless(tmp_path):
    chance = random.Random(20261129)
    path = tmp_path / "catalogue.json"
    outcomes = set()
    for _ in range(1500):
        everything, _ = some_catalogue(chance)
        save(everything, path)
        content = json.loads(path.read_text())
        for _ in range(chance.choice([1, 1, 3])):
            spoil(chance, content)
        path.write_text(json.dumps(content))
        try:
            found = load(path)
        except CatalogueError:
            outcomes.add("error")
            continue
        outcomes.add("none" if found is None else "harmless")
        if found is not None:
            choice = choose(some_need(chance), found)
            assert all(math.isfinite(one.usd_per_hour) and one.usd_per_hour > 0 for one in choice.ranked)
            assert all(name.isprintable() for name in found.types)
    assert outcomes == {"error", "none", "harmless"}


# --- against trying all ---


def some_range(chance, values, likely=0.35):
    if chance.random() > likely:
        return ANY
    low, high = sorted(chance.choices(values, k=2))
    return Range(*chance.choice([(low, None), (None, high), (low, high)]))


def some_need(chance):
    return Need(
        architecture=chance.choice([X86, ARM]),
        markets=chance.choice([(SPOT,), (ON_DEMAND,), (SPOT, ON_DEMAND)]),
        zones=chance.choice([(), (), ("east-?",), ("west-a", "east-b")]),
        instance_types=chance.choice([(), (), ("t1*", "t2*")]),
        cpu_families=chance.choice([(), (), ("*lake",)]),
        cpu_rank=some_range(chance, [0, 10, 20, 30], 0.2),
        allow_burstable=chance.random() < 0.5,
        cpus=some_range(chance, [1, 2, 4, 8, 16], 0.2),
        memory_gib=some_range(chance, [1, 4, 16, 64], 0.2),
        memory_gib_per_cpu=some_range(chance, [1, 2, 4, 8], 0.2),
        memory_gib_per_task=some_range(chance, [0.5, 1, 3, 9], 0.3),
        local_ssd_gib=some_range(chance, [0, 50, 100, 400], 0.1),
        local_ssd_gib_per_cpu=some_range(chance, [0, 10, 100], 0.1),
        local_ssd_gib_per_task=some_range(chance, [0, 10, 100], 0.15),
        boot_disk_types=chance.choice([(), (), ("fast",), ("slow", "fast")]),
        boot_disk_gib=chance.choice([10, 200]),
        boot_disk_gib_per_cpu=chance.choice([0, 0, 20]),
        boot_disk_gib_per_task=chance.choice([0, 0, 30]),
        boot_disk_iops=chance.choice([0, 0, 2000, 5000]),
        boot_disk_mibps=chance.choice([0, 0, 200]),
        cpus_per_task=chance.choice([0.5, 1, 1, 2, 3]),
        tasks_per_machine=some_range(chance, [1, 2, 3, 6], 0.2),
        machines=some_range(chance, [1, 2, 5, 9], 0.7),
        total_cpus=some_range(chance, [4, 16, 40], 0.2),
        simultaneous_tasks=some_range(chance, [1, 3, 6, 11, 20], 0.4),
        price_usd_per_hour=some_range(chance, [0.1, 1.0, 3.0, 9.0], 0.3),
        tasks=chance.choice([None, 1, 7, 100]),
    )


def some_catalogue(chance):
    types = [
        InstanceType(
            name=f"t{n}",
            cpus=(cpus := chance.choice([1, 2, 4, 8, 16])),
            memory_gib=cpus * chance.choice([0.5, 2, 4, 8]),
            architecture=chance.choice([X86, X86, ARM]),
            local_ssd_gib=chance.choice([0, 0, 75, 400]),
            cpu_family=chance.choice(["", "ice lake", "AMD"]),
            cpu_rank=chance.choice([0, 10, 20, 30]),
            is_burstable=chance.random() < 0.2,
            boot_disk_types=chance.choice([(), (), ("fast",)]),
        )
        for n in range(chance.choice([1, 5, 12]))
    ]
    disks = []
    for region in ("east", "west"):
        disks += [
            DiskType(
                name="slow",
                region=region,
                usd_per_gib_month=0.04,
                limits=DiskLimits(iops_per_gib=0.75, max_iops=3000, mibps_per_gib=0.12),
            ),
            DiskType(
                name="fast",
                region=region,
                usd_per_gib_month=chance.choice([0.08, 0.17]),
                usd_per_iops_month=0.005,
                usd_per_mibps_month=0.04,
                limits=DiskLimits(
                    free_iops=3000,
                    free_mibps=125,
                    orders_iops=True,
                    orders_mibps=True,
                    min_iops=3000,
                    max_iops_per_gib=500,
                ),
            ),
        ]
    prices = [
        (one.name, market, zone, chance.choice([None, 0.0, *[chance.uniform(0.01, 0.1) * one.cpus] * 6]))
        for one in types
        for market in Market
        for zone in ("east-a", "east-b", "west-a")
        if chance.random() < 0.8
    ]
    return make_catalogue(
        provider="test", regions=("east", "west"), fetched_at=0.0, types=types, disks=disks, prices=prices
    ), prices


def try_all(need, catalogue, prices):
    """Return the lowest price per slot and the number of machines, by the simplest implementation of each constraint."""
    fits = []
    for (name, market, zone, usd), disk in itertools.product(prices, catalogue.disks):
        kind = catalogue.types[name]
        if not usd or market not in need.markets or not zone.startswith(disk.region):
            continue
        if need.zones and not ((zone[:-1] == "east-" and "east-?" in need.zones) or zone in need.zones):
            continue
        if need.instance_types and name[:2] not in ("t1", "t2"):
            continue
        if need.cpu_families and not kind.cpu_family.endswith("lake"):
            continue
        if kind.architecture != need.architecture or (kind.is_burstable and not need.allow_burstable):
            continue
        if (need.boot_disk_types and disk.name not in need.boot_disk_types) or (
            kind.boot_disk_types and disk.name not in kind.boot_disk_types
        ):
            continue
        for slots in range(1, 40):
            size = need.boot_disk_gib + need.boot_disk_gib_per_cpu * kind.cpus + need.boot_disk_gib_per_task * slots
            ordered = disk.order(size, need.boot_disk_iops, need.boot_disk_mibps)
            ssd, memory = kind.local_ssd_gib, kind.memory_gib
            if not isinstance(ordered, Disk) or slots * need.cpus_per_task > kind.cpus:
                continue
            holds = [
                (kind.cpu_rank, need.cpu_rank),
                (kind.cpus, need.cpus),
                (memory, need.memory_gib),
                (memory / kind.cpus, need.memory_gib_per_cpu),
                (memory / slots, need.memory_gib_per_task),
                (ssd, need.local_ssd_gib),
                (ssd / kind.cpus, need.local_ssd_gib_per_cpu),
                (ssd / slots, need.local_ssd_gib_per_task),
                (slots, need.tasks_per_machine),
            ]
            if not all(within(value, allowed) for value, allowed in holds):
                continue
            total = usd + ordered.usd_per_hour
            numbers = [
                n
                for n in range(1, 1000)
                if within(n, need.machines)
                and within(n * kind.cpus, need.total_cpus)
                and within(n * slots, need.simultaneous_tasks)
                and within(n * total, need.price_usd_per_hour)
            ]
            if numbers:
                fits.append((total / min(slots, need.tasks or slots), slots, numbers))
    return min(fits, key=lambda fit: (round(fit[0], 12), -fit[1]), default=None)


def within(value, allowed):
    return (allowed.low is None or value >= allowed.low) and (allowed.high is None or value <= allowed.high)


@pytest.mark.slow
def test_it_is_the_best_of_all_that_exist():
    chance = random.Random(20261121)
    found = 0
    for _ in range(4000):
        wanted = some_need(chance)
        everything, prices = some_catalogue(chance)
        best = try_all(wanted, everything, prices)
        choice = choose(wanted, everything)
        if best is None:
            assert choice.best is None
            assert choice.rejected.keys() == everything.types.keys()
            assert all(choice.rejected.values())
            continue
        found += 1
        price, _, numbers = best
        assert choice.best.usd_per_slot_hour == pytest.approx(price)
        if wanted.machines.high is not None:
            wanted_number = (
                max(numbers) if wanted.tasks is None else min(max(numbers), math.ceil(wanted.tasks / choice.best.slots))
            )
            assert choice.count == max(min(numbers), wanted_number)
        keys = [one.rank_key for one in choice.ranked]
        assert keys == sorted(keys)
    assert found > 500
