"""The settings of single providers; ``pool_fields`` has those that providers share."""

from dataclasses import dataclass

from taskfleet.machine_terms import Host
from taskfleet.settings.declaring import setting
from taskfleet.settings.parsers import arguments, hosts, number, optional, switch, text, whole, words


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """The settings of AWS."""

    instance_profile: str | None = setting(
        "aws",
        "Instance profile of the machines; its role grants their permissions. 'none': machines have no instance profile.",
        optional(text),
        metavar="NAME",
    )
    security_groups: tuple[str, ...] = setting(
        "aws", "Security group IDs; empty: the default security group.", words, metavar="LIST"
    )
    subnets: tuple[str, ...] = setting(
        "aws", "Subnet IDs; empty: the default subnet of each zone.", words, metavar="LIST"
    )
    key_name: str | None = setting("aws", "EC2 key pair for SSH access to machines.", optional(text), metavar="NAME")


@dataclass(frozen=True, slots=True, kw_only=True)
class GcpSettings:
    """The settings of Google Cloud."""

    project_id: str | None = setting(
        "gcp",
        "Google Cloud project ID.",
        optional(text),
        metavar="ID",
        aliases={"RMS_CLOUD_TASKS_PROJECT_ID": text},
    )
    service_account: str | None = setting(
        "gcp",
        "Service account of the machines; empty: the default one of the project; 'none': machines have no service account.",
        optional(text),
        metavar="EMAIL",
    )
    network: str | None = setting("gcp", "VPC network; empty: 'default'.", optional(text), metavar="NAME")
    subnetwork: str | None = setting(
        "gcp",
        "Subnetwork, of this name in each region; required if the network creates none automatically (custom mode).",
        optional(text),
        metavar="NAME",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSettings:
    """The settings of Slurm. Names and values are those of sbatch's options."""

    partition: str | None = setting(
        "slurm",
        "Partition; several, separated by commas: whichever starts a job first. Empty: the cluster's default one.",
        optional(text),
        metavar="NAMES",
    )
    account: str | None = setting("slurm", "Account that is charged.", optional(text), metavar="NAME")
    qos: str | None = setting("slurm", "Quality of service.", optional(text), metavar="NAME")
    constraint: str | None = setting(
        "slurm", "Required features of nodes: 'cpu', 'haswell|skylake'.", optional(text), metavar="FEATURES"
    )
    gres: str | None = setting(
        "slurm", "Generic resources per machine: 'gpu:1', 'gpu:a100:2'.", optional(text), metavar="LIST"
    )
    reservation: str | None = setting("slurm", "Reservation.", optional(text), metavar="NAME")
    cluster: str | None = setting(
        "slurm", "Cluster, for sites with several; empty: the local one.", optional(text), metavar="NAME"
    )
    nodes_per_machine: int = setting(
        "slurm",
        "Nodes of a machine (a batch job). Its tasks are started by srun on whichever node has room; those of MPI may span all nodes.",
        whole(1, 10_000),
        metavar="N",
        default="1",
    )
    exclusive: bool = setting(
        "slurm", "Ask for whole nodes, whatever CPUS is.", switch, metavar="BOOL", default="false"
    )
    slurm_options: tuple[str, ...] = setting(
        "slurm",
        "More options for sbatch, as on its command line; they override the others: '--nice=100 --exclude=node7'.",
        arguments,
        metavar="OPTIONS",
    )
    controller_options: tuple[str, ...] = setting(
        "slurm",
        "Options for sbatch of the batch job that 'deploy_pool --as-job' submits: '--partition=long --time=2-00'.",
        arguments,
        metavar="OPTIONS",
    )
    usd_per_node_hour: float | None = setting(
        "slurm",
        "Price of a node, for costs in USD and BUDGET_USD. Empty: no price; costs are in node-hours only.",
        optional(number(0, above=True)),
        metavar="USD",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """The settings of hosts that are reached with ssh."""

    hosts: tuple[Host, ...] = setting(
        "ssh",
        "Computers to use, as for ssh, each with the most tasks at once after a colon: 'ws1 me@ws2 ws3:8'. The first ones are preferred.",
        hosts,
        metavar="LIST",
    )
    ssh_options: tuple[str, ...] = setting(
        "ssh",
        "More options for ssh, as on its command line: '-i ~/.ssh/lab -J gateway'. ~/.ssh/config applies, too.",
        arguments,
        metavar="OPTIONS",
    )
    nice: int = setting(
        "ssh",
        "Niceness of workers, from 0 (as important as other processes) to 19: others who use the computer come first.",
        whole(0, 19),
        metavar="N",
        default="10",
    )


#: The settings classes of all providers that have some.
PROVIDER_SETTINGS: tuple[type, ...] = (AwsSettings, GcpSettings, SlurmSettings, SshSettings)
