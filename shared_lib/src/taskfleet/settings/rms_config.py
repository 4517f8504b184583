"""Read a configuration file of rms-cloud-tasks 0.5.0 (``-e FILE.yml``) as settings.

The file keeps its meaning: where the defaults differ, those of rms-cloud-tasks apply, unless ``config/pool.env`` sets something else.
Keys in capitals are settings of this library.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskfleet.errors import SettingsError
from taskfleet.machine_terms import region_of
from taskfleet.settings.globs import globs_of
from taskfleet.settings.parsers import number, switch
from taskfleet.settings.rms_names import MANY_RETRIES, queue_url

SUFFIXES = (".yml", ".yaml")

#: Settings that such a file implies if it says nothing else.
DEFAULTS: Mapping[str, str] = {
    "MARKETS": "on-demand",
    "ALLOW_BURSTABLE": "true",
    "MAX_RUNTIME_SECONDS": "3600",
    "RETRIES_ON_EXIT": "0",
}

#: By the name after ``min_`` and ``max_``: the setting, and the maximum if there is none.
RANGES: Mapping[str, tuple[str, float | None]] = {
    "instances": ("MACHINES", 10),
    "total_cpus": ("TOTAL_CPUS", None),
    "tasks_per_instance": ("TASKS_PER_MACHINE", None),
    "simultaneous_tasks": ("SIMULTANEOUS_TASKS", None),
    "total_price_per_hour": ("PRICE_USD_PER_HOUR", 10),
    "cpu": ("CPUS", None),
    "total_memory": ("MEMORY_GIB", None),
    "memory_per_cpu": ("MEMORY_GIB_PER_CPU", None),
    "memory_per_task": ("MEMORY_GIB_PER_TASK", None),
    "local_ssd": ("LOCAL_SSD_GIB", None),
    "local_ssd_per_cpu": ("LOCAL_SSD_GIB_PER_CPU", None),
    "local_ssd_per_task": ("LOCAL_SSD_GIB_PER_TASK", None),
}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _lower(value: Any) -> str:
    return _text(value).lower()


def _retries(value: Any) -> str:
    return MANY_RETRIES if switch(_text(value)) else "0"


def _phrases(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else _text(value)


def _minutes(value: Any) -> str:
    if not isinstance(value, int | float) or value <= 0:
        raise ValueError("a number of seconds above 0 (the deadline cannot be switched off)")
    return f"{value / 60:g}"


def _market(value: Any) -> str:
    return "spot" if switch(_text(value)) else "on-demand"


def _pattern(expression: str) -> str:
    """Return the patterns with wildcards of a regular expression that a name must begin with."""
    patterns = globs_of(expression)
    if not patterns:
        raise ValueError(
            f"prefixes or patterns with * and ?; the regular expression {expression!r} cannot be converted"
        )
    if expression.endswith("$"):
        return " ".join(patterns)
    return " ".join(f"{pattern.rstrip('*')}*" for pattern in patterns)


def _patterns(value: Any) -> str:
    return " ".join(map(_pattern, re.split(r"[\s,]+", _text(value).strip())))


#: The setting and the conversion of each other key.
SETTINGS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "job_id": ("JOB_ID", _text),
    "region": ("REGIONS", _text),
    "zone": ("ZONES", _text),
    "project_id": ("PROJECT_ID", _text),
    "worker_service_account": ("SERVICE_ACCOUNT", _text),
    "service_account": ("SERVICE_ACCOUNT", _text),
    "cpus_per_task": ("CPUS_PER_TASK", _text),
    "architecture": ("ARCHITECTURE", _lower),
    "cpu_family": ("CPU_FAMILIES", _phrases),
    "instance_types": ("INSTANCE_TYPES", _patterns),
    "boot_disk_types": ("BOOT_DISK_TYPES", _lower),
    "boot_disk_iops": ("BOOT_DISK_IOPS", _text),
    "boot_disk_throughput": ("BOOT_DISK_MIBPS", _text),
    "boot_disk_per_cpu": ("BOOT_DISK_GIB_PER_CPU", _text),
    "boot_disk_per_task": ("BOOT_DISK_GIB_PER_TASK", _text),
    "use_spot": ("MARKETS", _market),
    "startup_script": ("START_UP_SCRIPT", _text),
    "startup_script_file": ("START_UP_SCRIPT", _text),
    "image": ("IMAGE", _text),
    "max_runtime": ("MAX_RUNTIME_SECONDS", _text),
    "max_memory_allowed_per_task": ("MEMORY_LIMIT_GIB", _text),
    "retry_on_exit": ("RETRIES_ON_EXIT", _retries),
    "retry_on_exception": ("RETRIES_ON_EXCEPTION", _retries),
    "retry_on_timeout": ("RETRIES_ON_TIMEOUT", _retries),
    "keepalive_startup_timeout": ("BOOT_MINUTES", _minutes),
    "keepalive_timeout": ("SILENT_MINUTES", _minutes),
    "db_file": ("LEDGER_PATH", _text),
}

#: Keys that several settings are made from.
COMBINED = ("queue_name", "total_boot_disk_size", "boot_disk_base_size")

#: Keys without an equivalent, with the reason; the second text is the only value that changes nothing, so that it is accepted.
REFUSED: Mapping[str, tuple[str, Any]] = {
    "min_cpu_rank": (
        "CPU_RANK is another scale: the release year of the CPU minus 2000. Set CPU_RANK, such as 21-",
        None,
    ),
    "max_cpu_rank": (
        "CPU_RANK is another scale: the release year of the CPU minus 2000. Set CPU_RANK, such as -23",
        None,
    ),
    "allow_cpu_wasting": (
        "a machine with little memory always runs fewer tasks, if MEMORY_GIB_PER_TASK requires it. To exclude such machines, set "
        "MEMORY_GIB_PER_CPU",
        True,
    ),
    "local_ssd_base_size": ("add it to min_local_ssd", 0),
    "exactly_once_queue": (
        "a task can run twice with every queue (when its worker dies), but its first result counts, once",
        False,
    ),
    "scaling_check_interval": ("the controller checks every few seconds, and whenever an event arrives", None),
    "instance_termination_delay": (
        "machines are terminated when no task is left; no task is late, because the ledger is exact",
        None,
    ),
    "keepalive_interval": ("workers send a heartbeat each minute, and more often while they run tasks", None),
    "access_key": ("keys do not belong in files; use AWS_PROFILE or the variables of the AWS CLI", None),
    "secret_key": ("keys do not belong in files; use AWS_PROFILE or the variables of the AWS CLI", None),
    "credentials_file": ("set the variable GOOGLE_APPLICATION_CREDENTIALS", None),
    "runner_service_account": (
        "run: gcloud auth application-default login --impersonate-service-account=ACCOUNT",
        None,
    ),
}
_RANGE_KEYS = {f"{end}_{name}": name for name in RANGES for end in ("min", "max")}


@dataclass(frozen=True, slots=True)
class RmsConfig:
    """What a file says."""

    settings: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The text and the key of each setting that it sets."""
    errors: list[str] = field(default_factory=list)


def read_rms_config(path: Path, known: Mapping[str, object], others: Mapping[str, str]) -> RmsConfig:
    """Read a file.

    Args:
        path: The file.
        known: The names of all settings.
        others: Settings that override the file: its provider, job and project decide which section is read and what the queue is.

    Raises:
        SettingsError: It is not YAML with a mapping.
    """
    found = RmsConfig()
    content = _load(path)
    provider = str(others.get("PROVIDER") or content.get("provider") or "").lower()
    if provider:
        found.settings["PROVIDER"] = (provider, "provider")
    keys: dict[str, tuple[str, Any]] = {}
    for name, value in content.items():
        if name in known:
            found.settings[name] = (_text(value), name)
        elif name in ("run", "aws", "gcp", "azure"):
            if value is not None and not isinstance(value, dict):
                found.errors.append(f"{path}: {name} is {value!r}, not a section with keys")
        elif name != "provider":
            found.errors.append(f"{path}: {name} is neither a section (run, aws, gcp) nor a setting")
    for section in ("run", provider):
        values = content.get(section)
        for name, value in values.items() if isinstance(values, dict) else ():
            if value is not None:  # hyphens are in rms-cloud-tasks' own documentation
                key = str(name).replace("-", "_")
                if key in keys and keys[key][0].startswith(f"{section}."):
                    found.errors.append(f"{path}: {keys[key][0]} and {section}.{name} are both set; remove one")
                keys[key] = (f"{section}.{name}", value)
    _convert(path, keys, found)
    _combine(path, keys, provider, others, found)
    return found


def _load(path: Path) -> dict[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that occurs twice: the first one may be the limit of the price."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [name.value for name, _ in node.value if name.value != "<<"]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(
                        f"the key {name!r} occurs more than once in line {node.start_mark.line + 1} or below."
                    )
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must have keys: provider, run and the provider's name. See docs/rms.md.")
    return content


def _convert(path: Path, keys: Mapping[str, tuple[str, Any]], found: RmsConfig) -> None:
    for name, (shown, value) in keys.items():
        if name in SETTINGS:
            setting, convert = SETTINGS[name]
            try:
                found.settings[setting] = (convert(value), shown)
            except ValueError as error:
                found.errors.append(f"{path}: {shown}: {value!r} is invalid; expected {error}")
        elif name in REFUSED:
            reason, accepted = REFUSED[name]
            if accepted is None or value != accepted:
                found.errors.append(f"{path}: {shown} has no equivalent: {reason}. Remove the key")
        elif name not in _RANGE_KEYS and name not in COMBINED:
            found.errors.append(f"{path}: {shown} is not a key of rms-cloud-tasks")
    if "startup_script" in keys and "startup_script_file" in keys:
        found.errors.append(f"{path}: startup_script and startup_script_file are both set; remove one")


def _combine(
    path: Path, keys: Mapping[str, tuple[str, Any]], provider: str, others: Mapping[str, str], found: RmsConfig
) -> None:
    """Add the settings that are made from several keys."""
    value = {name: given for name, (_, given) in keys.items()}
    shown = {name: place for name, (place, _) in keys.items()}
    for name, (setting, most) in RANGES.items():
        low, high = value.get(f"min_{name}"), value.get(f"max_{name}", most)
        if f"min_{name}" in value or f"max_{name}" in value:
            if f"max_{name}" not in value and most is not None and isinstance(low, int | float):
                high = max(most, low)
            text = f"{low or ''}-{'' if high is None else high}"
            place = shown.get(f"max_{name}") or shown[f"min_{name}"]
            found.settings[setting] = ("" if text == "-" else text, place)
    sizes = [value[name] for name in ("total_boot_disk_size", "boot_disk_base_size") if name in value]
    if sizes:
        place = "total_boot_disk_size, boot_disk_base_size"
        try:
            found.settings["BOOT_DISK_GIB"] = (_text(max(sizes, key=lambda size: number(0)(_text(size)))), place)
        except ValueError as error:
            found.errors.append(f"{path}: {place}: {sizes} is invalid; expected {error}")
    if "startup_script_file" in value:
        found.settings["START_UP_SCRIPT"] = (
            str(path.parent.absolute() / Path(_text(value["startup_script_file"])).expanduser()),
            shown["startup_script_file"],
        )
    if "zone" in value and "region" not in value:
        zones = value["zone"] if isinstance(value["zone"], list) else [value["zone"]]
        found.settings["REGIONS"] = (" ".join(dict.fromkeys(region_of(str(zone)) for zone in zones)), shown["zone"])
    name = others.get("JOB_ID") or value.get("queue_name") or value.get("job_id") or ""
    project = others.get("PROJECT_ID") or value.get("project_id") or ""
    region = found.settings.get("REGIONS", ("", ""))[0].split(" ")[0]
    if "QUEUE_URL" not in found.settings and (
        url := queue_url(provider, str(name), project_id=str(project), region=region)
    ):
        found.settings["QUEUE_URL"] = (url, shown.get("queue_name") or shown.get("job_id") or "provider")
