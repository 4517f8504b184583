"""The command line of workers of rms-cloud-tasks 0.5.0."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taskfleet.settings.rms_names import lower, retries


@dataclass(frozen=True, slots=True)
class Option:
    """An option, and what it sets."""

    name: str
    help: str
    kind: Callable[[str], object] | None = str
    """The type of its argument; None for a switch, which can also be written with ``--no-``."""
    setting: str = ""
    convert: Callable[[str], str] = str
    """Converts its text to the setting's."""
    attribute: str = ""
    """The attribute of ``WorkerData`` that it sets, if no setting does."""

    @property
    def key(self) -> str:
        """Its name in the parsed command line."""
        return self.name.removeprefix("--").replace("-", "_")


OPTIONS = (
    Option("--provider", "AWS or GCP: where the queue is", setting="PROVIDER", convert=lower, attribute="provider"),
    Option("--project-id", "the project of Google Cloud", setting="PROJECT_ID", attribute="project_id"),
    Option("--task-file", "a table of tasks to run here, instead of those in a queue", setting="TASK_TABLE"),
    Option("--job-id", "the name of the job", setting="JOB_ID", attribute="job_id"),
    Option("--queue-name", "the name of the queue; default: the job", attribute="queue_name"),
    Option(
        "--exactly-once-queue", "accepted; results count once with every queue", None, attribute="exactly_once_queue"
    ),
    Option("--event-log-file", "the file for events (default events.log)", setting="EVENT_FILE"),
    Option("--event-log-to-file", "write events to a file (the default with tasks of one's own)", None),
    Option("--event-log-to-queue", "accepted; events go to the queue if the tasks come from one", None),
    Option(
        "--keepalive-interval", "accepted; heartbeats have their own interval", float, attribute="keepalive_interval"
    ),
    Option("--instance-type", "information for the tasks", attribute="instance_type"),
    Option(
        "--num-cpus", "information for the tasks; the default of --num-simultaneous-tasks", int, attribute="num_cpus"
    ),
    Option("--memory", "information for the tasks, in GB", float, attribute="memory_gb"),
    Option("--local-ssd", "information for the tasks, in GB", float, attribute="local_ssd_gb"),
    Option("--boot-disk", "information for the tasks, in GB", float, attribute="boot_disk_gb"),
    Option("--is-spot", "information for the tasks", None, attribute="is_spot"),
    Option("--price", "information for the tasks, in USD per hour", float, attribute="price_per_hour"),
    Option("--num-simultaneous-tasks", "the number of concurrent tasks", int, setting="SLOTS"),
    Option("--max-runtime", "the maximum run time of a task, in seconds", int, setting="MAX_RUNTIME_SECONDS"),
    Option("--max-memory-allowed-per-task", "the maximum memory of a task, in GiB", float, setting="MEMORY_LIMIT_GIB"),
    Option("--shutdown-grace-period", "time for running tasks after Ctrl-C", int, setting="SHUTDOWN_GRACE_SECONDS"),
    Option("--tasks-to-skip", "skip the first tasks", int, setting="SKIP_TASKS"),
    Option("--max-num-tasks", "stop after this number of tasks", int, setting="MAX_TASKS"),
    Option("--retry-on-exit", "retry after a crash", None, setting="RETRIES_ON_EXIT", convert=retries),
    Option("--retry-on-exception", "retry after an exception", None, setting="RETRIES_ON_EXCEPTION", convert=retries),
    Option("--retry-on-timeout", "retry after --max-runtime", None, setting="RETRIES_ON_TIMEOUT", convert=retries),
    Option(
        "--simulate-spot-termination-after",
        "simulate a termination notice after so many seconds",
        float,
        setting="SIMULATE_SPOT_TERMINATION_AFTER_SECONDS",
    ),
    Option(
        "--simulate-spot-termination-delay",
        "kill running tasks so many seconds after the simulated notice",
        float,
        setting="SIMULATE_SPOT_TERMINATION_DELAY_SECONDS",
    ),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser, whose own ones stay."""
    for one in OPTIONS:
        if one.kind is None:
            parser.add_argument(one.name, action="store_true", default=None, help=one.help)
            parser.add_argument(f"--no-{one.name[2:]}", action="store_false", dest=one.key, help=argparse.SUPPRESS)
        else:
            parser.add_argument(one.name, type=one.kind, help=one.help)
    parser.add_argument("-v", "--verbose", action="store_true", help="print debug messages")


def settings_of(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the texts of the settings that the options set."""
    given = {one: getattr(arguments, one.key) for one in OPTIONS if getattr(arguments, one.key) is not None}
    return {one.setting: one.convert(_text(value)) for one, value in given.items() if one.setting}


def attributes_of(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Return the attributes of ``WorkerData`` that the options set."""
    found = {one.attribute: getattr(arguments, one.key) for one in OPTIONS if one.attribute}
    return {name: value for name, value in found.items() if value is not None}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
