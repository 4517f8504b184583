"""The settings of a pool: location, machine requirements, pool size, cost limits and machine lifetime."""

from dataclasses import dataclass

from taskfleet.machine_terms import Architecture, Hardware, Market, Range
from taskfleet.settings.declaring import PROVIDER_GROUPS, setting
from taskfleet.settings.parsers import (
    choice,
    globs,
    markets,
    number,
    optional,
    phrases,
    several,
    span,
    switch,
    text,
    words,
)
from taskfleet.settings.rms_names import lower


def _range(sentence: str, metavar: str = "RANGE", default: str = "", group: str = "machine") -> Range:
    return setting(group, sentence, span, metavar=metavar, default=default)


def _size(sentence: str, default: str, metavar: str = "GIB") -> float:
    return setting("machine", sentence, number(0), metavar=metavar, default=default)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """All settings of a pool that several providers share."""

    provider: str = setting(
        "provider",
        "Where machines come from: local (worker processes on this computer), aws, gcp, slurm (batch jobs of a cluster), or ssh (computers "
        "that you can log in to).",
        choice(*PROVIDER_GROUPS),
        metavar="NAME",
        default="local",
        aliases={"RMS_CLOUD_TASKS_PROVIDER": lower},
    )
    regions: tuple[str, ...] = setting(
        "location",
        "Regions to search for the cheapest offer: 'us-east-1 us-west-2'. See poe list_regions.",
        words,
        metavar="LIST",
    )
    zones: tuple[str, ...] = setting(
        "location",
        "Restrict to these zones (wildcards * and ?): 'us-east-1a us-west-2?'.",
        globs(words),
        metavar="LIST",
    )
    markets: tuple[Market, ...] = setting(
        "location",
        "Pricing: spot (cheap, can be reclaimed), on-demand, or both; the cheapest available offer is used.",
        markets,
        metavar="LIST",
        default="spot",
    )
    catalogue_hours: float = setting(
        "location",
        "Maximum age of a cached price list; an older one is fetched again.",
        number(0),
        metavar="HOURS",
        default="12",
    )
    architecture: Architecture = setting(
        "machine",
        "CPU architecture: x86_64 or arm64.",
        choice(*Architecture, make=Architecture),
        metavar="NAME",
        default="x86_64",
    )
    instance_types: tuple[str, ...] = setting(
        "machine", "Restrict to these instance types (wildcards * and ?): 'c7i.* m7i.*'.", globs(words), metavar="LIST"
    )
    exclude_instance_types: tuple[str, ...] = setting(
        "machine",
        "Exclude these instance types (wildcards * and ?): '*.48xlarge t2.*'.",
        globs(words),
        metavar="LIST",
    )
    special_hardware: tuple[Hardware, ...] = setting(
        "machine",
        "Include instance types with special hardware: gpu, fpga, accelerator (chips for machine learning or video), metal, "
        "high-memory; without it, only those that INSTANCE_TYPES names without wildcards.",
        several(Hardware),
        metavar="LIST",
    )
    cpu_families: tuple[str, ...] = setting(
        "machine",
        "Restrict to these CPU families, separated by commas (wildcards * and ?): 'AMD*, *Sapphire Rapids'.",
        globs(phrases, separator=", "),
        metavar="LIST",
    )
    cpu_rank: Range = _range("CPU generation, as release year minus 2000; 20- excludes CPUs older than 2020.")
    allow_burstable: bool = setting(
        "machine",
        "Include burstable instance types (t3, e2-micro, ...).",
        switch,
        metavar="BOOL",
        default="false",
    )
    cpus: Range = _range("Virtual CPUs (vCPUs) per machine: 8, 4-16, 4- (at least) or -16 (at most).", group="size")
    memory_gib: Range = _range(
        "Memory per machine; Python and its libraries need about 2 GiB.", default="2-", group="size"
    )
    memory_gib_per_cpu: Range = _range("Memory per vCPU.", group="size")
    memory_gib_per_task: Range = _range("Memory per concurrent task.", group="task")
    local_ssd_gib: Range = _range("Total local SSD storage per machine.")
    local_ssd_gib_per_cpu: Range = _range("Local SSD storage per vCPU.")
    local_ssd_gib_per_task: Range = _range("Local SSD storage per concurrent task.")
    boot_disk_types: tuple[str, ...] = setting(
        "machine",
        "Restrict to these boot disk types (gp3, pd-balanced, ...); the cheapest suitable one is used.",
        words,
        metavar="LIST",
    )
    boot_disk_gib: float = _size("Boot disk space for the operating system and your project.", "20")
    boot_disk_gib_per_cpu: float = _size("Additional boot disk space per vCPU.", "0")
    boot_disk_gib_per_task: float = _size("Additional boot disk space per concurrent task.", "0")
    boot_disk_iops: float = _size("Required boot disk operations per second.", "0", "IOPS")
    boot_disk_mibps: float = _size("Required boot disk throughput, in MiB per second.", "0", "MIBPS")
    cpus_per_task: float = setting(
        "task",
        "Number of vCPUs per task; with 0.5, two tasks share one.",
        number(0, above=True),
        metavar="CPUS",
        default="1",
    )
    tasks_per_machine: Range = _range("Concurrent tasks per machine.", group="task")
    machines: Range = _range("Number of machines in the pool.", default="1-10", group="number")
    total_cpus: Range = _range("Total vCPUs of the pool.", group="number")
    simultaneous_tasks: Range = _range("Total concurrent tasks in the pool.", group="number")
    price_usd_per_hour: Range = _range("Total price of all machines of the job per hour.", "USD", "-10", group="number")
    budget_usd: float | None = setting(
        "number",
        "Maximum total cost of all machines that the job ever launches.",
        optional(number(0, above=True)),
        metavar="USD",
    )
    budget_node_hours: float | None = setting(
        "slurm",
        "Maximum total node-hours of all machines that the job ever launches; they count from the start of a batch job.",
        optional(number(0, above=True)),
        metavar="HOURS",
    )
    hours_per_task: float | None = setting(
        "number",
        "Expected duration of a task, for estimates; empty: as measured in this job.",
        optional(number(0, above=True)),
        metavar="HOURS",
    )

    lifetime_hours: float = setting(
        "lifetime",
        "Maximum lifetime of a machine; its self-destruct timer then terminates it, even without a controller.",
        number(0, above=True),
        metavar="HOURS",
        default="24",
    )
    boot_minutes: float = setting(
        "lifetime",
        "Maximum time from the start of a machine to its worker's first heartbeat; a machine that exceeds it is reported and replaced.",
        number(0, above=True),
        metavar="MINUTES",
        default="10",
    )
    silent_minutes: float = setting(
        "lifetime",
        "Maximum time since the last heartbeat of the worker; a machine that exceeds it is replaced. Idle workers send one each minute.",
        number(0, above=True),
        metavar="MINUTES",
        default="3.5",
    )
    image: str | None = setting(
        "start",
        "Operating system image: an AMI ID, or a Google Cloud image or image family. Empty: the latest Ubuntu LTS. See poe list_images.",
        optional(text),
        metavar="NAME",
    )
    code_from: str = setting(
        "start",
        "How machines get your project: bundle (uploaded to BUCKET), git (cloned from GIT_URL), or image (in IMAGE already, at "
        "/opt/project).",
        choice("bundle", "git", "image"),
        metavar="NAME",
        default="bundle",
    )
    bucket: str | None = setting(
        "start",
        "Bucket for the bundle: s3://bucket/folder or gs://bucket/folder; it must exist.",
        optional(text),
        metavar="ADDRESS",
    )
    git_url: str | None = setting(
        "start", "Repository to clone; machines need read access.", optional(text), metavar="ADDRESS"
    )
    git_revision: str = setting("start", "Branch, tag or commit to check out.", text, metavar="NAME", default="HEAD")
    start_up_script: str | None = setting(
        "start",
        "Your own script, instead of the generated start-up script that poe plan --show-start-up-script prints.",
        optional(text),
        metavar="FILE",
    )
    before_start_up: str | None = setting(
        "start",
        "Your shell script that each machine runs first: system packages, drivers, disks.",
        optional(text),
        metavar="FILE",
    )
    before_worker: str | None = setting(
        "hooks",
        "Your shell script that runs when the project is installed, before the worker starts.",
        optional(text),
        metavar="FILE",
    )
    after_worker: str | None = setting(
        "hooks", "Your shell script that runs after the worker has exited.", optional(text), metavar="FILE"
    )
    external_ip: bool = setting(
        "start",
        "Give machines a public IP address; without one, the network must provide internet access (NAT).",
        switch,
        metavar="BOOL",
        default="true",
    )
