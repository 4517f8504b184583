"""The settings of a pool of machines: where they are, what they have to be, how many there may be and how dear."""

from dataclasses import dataclass

from taskfleet.machine_terms import Architecture, Market, Range
from taskfleet.settings.declaring import PROVIDER_GROUPS, setting
from taskfleet.settings.parsers import choice, markets, number, optional, phrases, span, switch, text, words


def _range(sentence: str, metavar: str = "RANGE", default: str = "", group: str = "machine") -> Range:
    return setting(group, sentence, span, metavar=metavar, default=default)


def _size(sentence: str, default: str, metavar: str = "GIB") -> float:
    return setting("machine", sentence, number(0), metavar=metavar, default=default)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """Everything that can be set about the pool."""

    provider: str = setting(
        "provider",
        "Whose machines are taken: local (worker processes on this machine), aws or gcp.",
        choice(*PROVIDER_GROUPS),
        metavar="NAME",
        default="local",
    )
    regions: tuple[str, ...] = setting(
        "location",
        "The regions to look in, the cheapest of which is taken: 'us-east-1 us-west-2'. See poe list_regions.",
        words,
        metavar="LIST",
    )
    zones: tuple[str, ...] = setting(
        "location", "Only these zones, with * and ? as wildcards: 'us-east-1a us-west-2?'.", words, metavar="LIST"
    )
    markets: tuple[Market, ...] = setting(
        "location",
        "What is paid: spot (cheap, may be taken away), on-demand, or both, of which the cheapest that is to be had is taken.",
        markets,
        metavar="LIST",
        default="spot",
    )
    catalogue_hours: float = setting(
        "location",
        "For how long prices that were fetched are good; older ones are fetched again.",
        number(0),
        metavar="HOURS",
        default="12",
    )
    architecture: Architecture = setting(
        "machine",
        "What the machines run: x86_64 or arm64.",
        choice(*Architecture, make=Architecture),
        metavar="NAME",
        default="x86_64",
    )
    instance_types: tuple[str, ...] = setting(
        "machine", "Only these types of machines, with * and ? as wildcards: 'c7i.* m7i.*'.", words, metavar="LIST"
    )
    cpu_families: tuple[str, ...] = setting(
        "machine",
        "Only these families of processors, separated by commas, with wildcards: 'AMD*, *Sapphire Rapids'.",
        phrases,
        metavar="LIST",
    )
    cpu_rank: Range = _range(
        "How fast a core is: the year its processor came out less 2000. 20- leaves out older ones."
    )
    allow_burstable: bool = setting(
        "machine",
        "Take types too that have their whole speed for a while only (t3, e2-micro, ...).",
        switch,
        metavar="BOOL",
        default="false",
    )
    cpus: Range = _range("Virtual CPUs of a machine: 8, 4-16, 4- or -16.")
    memory_gib: Range = _range(
        "Memory of a machine; with less than 2 GiB, Python and its libraries hardly run.", default="2-"
    )
    memory_gib_per_cpu: Range = _range("Memory for each CPU.")
    memory_gib_per_task: Range = _range("Memory for each task at a time.", group="task")
    local_ssd_gib: Range = _range("Local solid-state disks of a machine, together.")
    local_ssd_gib_per_cpu: Range = _range("Local solid-state disks for each CPU.")
    local_ssd_gib_per_task: Range = _range("Local solid-state disks for each task at a time.")
    boot_disk_types: tuple[str, ...] = setting(
        "machine",
        "Only these types of boot disks: gp3, pd-balanced, ...; the cheapest fitting is taken.",
        words,
        metavar="LIST",
    )
    boot_disk_gib: float = _size("What the system and your project take of the boot disk.", "20")
    boot_disk_gib_per_cpu: float = _size("More of the boot disk for each CPU.", "0")
    boot_disk_gib_per_task: float = _size("More of the boot disk for each task at a time.", "0")
    boot_disk_iops: float = _size("Operations per second that the boot disk has to do.", "0", "IOPS")
    boot_disk_mibps: float = _size("MiB per second that the boot disk has to do.", "0", "MIBPS")
    cpus_per_task: float = setting(
        "task",
        "CPUs that one task takes; 0.5 has two of them share one.",
        number(0, above=True),
        metavar="CPUS",
        default="1",
    )
    tasks_per_machine: Range = _range("Tasks at a time on a machine.", group="task")
    machines: Range = _range("How many machines there are.", default="1-10", group="number")
    total_cpus: Range = _range("CPUs of all machines together.", group="number")
    simultaneous_tasks: Range = _range("Tasks at a time on all machines together.", group="number")
    price_usd_per_hour: Range = _range("What all machines together cost per hour.", "USD", "-10", group="number")
    budget_usd: float | None = setting(
        "number", "What all machines of the job may cost, ever.", optional(number(0, above=True)), metavar="USD"
    )
    hours_per_task: float | None = setting(
        "number",
        "How long a task takes, for the estimate; what the ledger has measured if left empty.",
        optional(number(0, above=True)),
        metavar="HOURS",
    )

    lifetime_hours: float = setting(
        "lifetime",
        "A machine ends itself after so long, whatever happens: what you pay for one that everybody forgot.",
        number(0, above=True),
        metavar="HOURS",
        default="24",
    )
    boot_minutes: float = setting(
        "lifetime",
        "A machine whose worker was not heard after so long is shown with what it printed, and replaced.",
        number(0, above=True),
        metavar="MINUTES",
        default="10",
    )
    silent_minutes: float = setting(
        "lifetime",
        "A machine whose worker was heard and then was not for so long is replaced; an idle worker gives a sign of life each minute.",
        number(0, above=True),
        metavar="MINUTES",
        default="3.5",
    )
    image: str | None = setting(
        "start",
        "The system to boot: an AMI's id, an image or an image family of Google Cloud. Empty: the newest Ubuntu LTS. See poe list_images.",
        optional(text),
        metavar="NAME",
    )
    code_from: str = setting(
        "start",
        "Where machines get your project from: bundle (packed and put into BUCKET), git (GIT_URL), or image (it is in IMAGE already, in "
        "/opt/project).",
        choice("bundle", "git", "image"),
        metavar="NAME",
        default="bundle",
    )
    bucket: str | None = setting(
        "start",
        "Where the bundle is put: s3://bucket/folder or gs://bucket/folder; the bucket must exist.",
        optional(text),
        metavar="ADDRESS",
    )
    git_url: str | None = setting(
        "start", "The repository to clone; it must be readable by machines.", optional(text), metavar="ADDRESS"
    )
    git_revision: str = setting(
        "start", "The branch, tag or commit to check out.", text, metavar="NAME", default="HEAD"
    )
    start_up_script: str | None = setting(
        "start",
        "A file of your own instead of the start-up script (poe plan --show-start-up-script prints what is replaced).",
        optional(text),
        metavar="FILE",
    )
    before_start_up: str | None = setting(
        "start",
        "A shell script of yours that runs on each machine first: system packages, drivers, disks.",
        optional(text),
        metavar="FILE",
    )
    before_worker: str | None = setting(
        "start",
        "A shell script of yours that runs when the project is there, before the worker starts.",
        optional(text),
        metavar="FILE",
    )
    after_worker: str | None = setting(
        "start", "A shell script of yours that runs when the worker has ended.", optional(text), metavar="FILE"
    )
    external_ip: bool = setting(
        "start",
        "Give machines an address to reach the internet with; without, the network has to offer a way (NAT).",
        switch,
        metavar="BOOL",
        default="true",
    )
