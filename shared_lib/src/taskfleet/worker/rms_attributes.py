"""The attributes of ``WorkerData`` that are the same for all tasks of a worker."""

from collections.abc import Callable, Mapping

from taskfleet.errors import SettingsError
from taskfleet.machines.facts import facts_here
from taskfleet.queues.addresses import EVENTS, is_postgresql, is_remote
from taskfleet.settings import Configuration
from taskfleet.settings.rms_names import PREFIX, yes
from taskfleet.tasks import JSON

#: Variables of rms-cloud-tasks that have no setting: facts about the machine, and what has no meaning here.
_VARIABLES: Mapping[str, tuple[str, Callable[[str], JSON]]] = {
    "PROVIDER": ("provider", str.upper),
    "PROJECT_ID": ("project_id", str),
    "QUEUE_NAME": ("queue_name", str),
    "EXACTLY_ONCE_QUEUE": ("exactly_once_queue", yes),
    "KEEPALIVE_INTERVAL": ("keepalive_interval", float),
    "INSTANCE_TYPE": ("instance_type", str),
    "INSTANCE_NUM_VCPUS": ("num_cpus", int),
    "INSTANCE_MEM_GB": ("memory_gb", float),
    "INSTANCE_SSD_GB": ("local_ssd_gb", float),
    "INSTANCE_BOOT_DISK_GB": ("boot_disk_gb", float),
    "INSTANCE_IS_SPOT": ("is_spot", yes),
    "INSTANCE_PRICE": ("price_per_hour", float),
}


def rms_attributes(configuration: Configuration, environ: Mapping[str, str]) -> dict[str, JSON]:
    """Return the attributes: from the settings, the machine, and the variables of rms-cloud-tasks, of which the last ones win.

    Raises:
        SettingsError: A variable is not a number.
    """
    settings = configuration.settings
    after = settings.simulate_spot_termination_after_seconds
    found: dict[str, JSON] = {
        "is_spot": None,
        "event_log_to_file": settings.event_file is not None,
        "event_log_file": settings.event_file or "events.log",
        "shutdown_grace_period": settings.shutdown_grace_seconds,
        "retry_on_exit": settings.retries_on_exit > 0,
        "retry_on_exception": settings.retries_on_exception > 0,
        "retry_on_timeout": settings.retries_on_timeout > 0,
        "simulate_spot_termination_after": after,
        "simulate_spot_termination_delay": None if after is None else settings.simulate_spot_termination_delay_seconds,
    }
    found |= _queue(settings.queue_url, settings.job_id) | facts_here(environ)
    for name, (attribute, parse) in _VARIABLES.items():
        if text := environ.get(PREFIX + name):
            try:
                found[attribute] = parse(text)
            except ValueError:
                raise SettingsError(f"the environment: {PREFIX}{name}={text!r} is invalid; expected a number") from None
    return found


def _queue(queue_url: str, job_id: str) -> dict[str, JSON]:
    if not is_remote(queue_url):
        return {}
    scheme, _, rest = queue_url.partition("://")
    *path, name = rest.partition("?")[0].rstrip("/").split("/")
    is_in_database = is_postgresql(queue_url)
    if is_in_database:
        name = job_id
    found: dict[str, JSON] = {
        "queue_name": name,
        "event_log_to_queue": True,
        "event_log_queue_name": f"{name}/events" if is_in_database else f"{name}{EVENTS}",
    }
    if scheme == "pubsub":
        return found | {"provider": "GCP", "project_id": path[0] if path else None}
    return found if is_in_database else found | {"provider": "AWS"}
