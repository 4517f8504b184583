"""A configuration file of rms-cloud-tasks as a file of settings, and its names in the environment."""

import json
import re
from pathlib import Path

import pytest
import yaml
from taskfleet.errors import SettingsError
from taskfleet.settings import describe, read_configuration
from taskfleet.settings.rms_config import COMBINED, RANGES, REFUSED, SETTINGS
from taskfleet.worker.rms_attributes import _VARIABLES, rms_attributes

RMS = json.loads((Path(__file__).with_name("rms_cloud_tasks_0.5.0.json")).read_text())
PREFIX = "RMS_CLOUD_TASKS_"

# The keys of the quick start, which writes them with hyphens.
QUICK_START = """
provider: gcp
TASK_FUNCTION: my_worker:process_task
gcp:
  job_id: my-processing-job
  project_id: my-project
  startup_script_file: startup_script.sh
  max-instances: 5
  max-cpu: 8
  min-memory-per-cpu: 4  # GB
  max-total-price-per-hour: 1.00  # USD/hour
  instance-types: "n2-"
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(content, *, pool="", environ=None, **flags):
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (tmp_path / "my.yml").write_text(text)
        (tmp_path / "config").mkdir(exist_ok=True)
        (tmp_path / "config" / "task.env").touch()
        (tmp_path / "config" / "pool.env").write_text(pool)
        return read_configuration(flags=flags, env_file="my.yml", environ=environ or {})

    return read


def test_the_file_of_the_quick_start_means_what_it_means_there(read, tmp_path):
    values = read(QUICK_START).texts
    assert values == {
        "PROVIDER": "gcp",
        "TASK_FUNCTION": "my_worker:process_task",
        "JOB_ID": "my-processing-job",
        "PROJECT_ID": "my-project",
        "QUEUE_URL": "pubsub://my-project/my-processing-job",
        "START_UP_SCRIPT": str(tmp_path / "startup_script.sh"),
        "MACHINES": "-5",
        "CPUS": "-8",
        "MEMORY_GIB_PER_CPU": "4-",
        "PRICE_USD_PER_HOUR": "-1.0",
        "INSTANCE_TYPES": "n2-*",
        # the defaults that differ
        "MARKETS": "on-demand",
        "ALLOW_BURSTABLE": "true",
        "MAX_RUNTIME_SECONDS": "3600",
        "RETRIES_ON_EXIT": "0",
    }


EVERYTHING = {
    "provider": "AWS",
    "run": {"max_instances": 3, "retry_on_exit": False, "use_spot": True, "max_runtime": 60, "db_file": "x.db"},
    "aws": {
        "job_id": "j",
        "queue_name": "q",
        "region": "us-west-2",
        "zone": ["us-west-2a", "us-west-2b"],
        "exactly_once_queue": False,
        "max_instances": 20,
        "min_instances": 12,
        "min_total_cpus": 4,
        "max_total_cpus": 64,
        "cpus_per_task": 0.5,
        "allow_cpu_wasting": True,
        "max_tasks_per_instance": 9,
        "min_simultaneous_tasks": 2,
        "min_total_price_per_hour": 0.5,
        "architecture": "ARM64",
        "cpu_family": "AWS Graviton3",
        "min_cpu": 2,
        "max_total_memory": 32.5,
        "min_memory_per_task": 1.5,
        "min_local_ssd": 10,
        "max_local_ssd_per_cpu": 3,
        "min_local_ssd_per_task": 1,
        "boot_disk_types": ["GP3", "io2"],
        "boot_disk_iops": 4000,
        "boot_disk_throughput": 200,
        "total_boot_disk_size": 30,
        "boot_disk_base_size": 12,
        "boot_disk_per_cpu": 1,
        "boot_disk_per_task": 2,
        "instance_types": ["(c7|c6)g.*", "^m7g\\.large$", "r7"],
        "startup_script": "#!/bin/bash\necho hi\n",
        "image": "ami-1",
        "retry_on_exit": True,
        "retry_on_exception": True,
        "retry_on_timeout": None,
        "max_memory_allowed_per_task": 2.5,
        "keepalive_startup_timeout": 900,
        "keepalive_timeout": 90,
    },
    "gcp": {"job_id": "other", "nonsense": 1},
}


def test_every_key_with_an_equivalent_is_read(read):
    assert read(EVERYTHING).texts == {
        "PROVIDER": "aws",
        "JOB_ID": "j",
        "QUEUE_URL": "sqs://q?region=us-west-2",
        "REGIONS": "us-west-2",
        "ZONES": "us-west-2a us-west-2b",
        "MACHINES": "12-20",
        "TOTAL_CPUS": "4-64",
        "CPUS_PER_TASK": "0.5",
        "TASKS_PER_MACHINE": "-9",
        "SIMULTANEOUS_TASKS": "2-",
        "PRICE_USD_PER_HOUR": "0.5-10",
        "ARCHITECTURE": "arm64",
        "CPU_FAMILIES": "AWS Graviton3",
        "CPUS": "2-",
        "MEMORY_GIB": "-32.5",
        "MEMORY_GIB_PER_TASK": "1.5-",
        "LOCAL_SSD_GIB": "10-",
        "LOCAL_SSD_GIB_PER_CPU": "-3",
        "LOCAL_SSD_GIB_PER_TASK": "1-",
        "BOOT_DISK_TYPES": "gp3 io2",
        "BOOT_DISK_IOPS": "4000",
        "BOOT_DISK_MIBPS": "200",
        "BOOT_DISK_GIB": "30",
        "BOOT_DISK_GIB_PER_CPU": "1",
        "BOOT_DISK_GIB_PER_TASK": "2",
        "INSTANCE_TYPES": "c7g* c6g* m7g.large r7*",
        "START_UP_SCRIPT": "#!/bin/bash\necho hi\n",
        "IMAGE": "ami-1",
        "MARKETS": "spot",
        "MAX_RUNTIME_SECONDS": "60",
        "MEMORY_LIMIT_GIB": "2.5",
        "RETRIES_ON_EXIT": "10",
        "RETRIES_ON_EXCEPTION": "10",
        "BOOT_MINUTES": "15",
        "SILENT_MINUTES": "1.5",
        "LEDGER_PATH": "x.db",
        "ALLOW_BURSTABLE": "true",
    }


def test_every_key_is_known():
    ours = {*SETTINGS, *COMBINED, *REFUSED, *(f"{end}_{name}" for name in RANGES for end in ("min", "max"))}
    sections = ("run", "provider", "aws", "gcp")
    assert {key for section in sections for key in RMS["config"][section]} == ours - {"service_account"}
    names = {field.name for field in describe()}
    assert {name for name, _ in SETTINGS.values()} | {name for name, _ in RANGES.values()} <= names


def test_flags_and_the_environment_override_the_file_which_overrides_the_pools_file(read):
    content = {"provider": "gcp", "gcp": {"job_id": "a", "project_id": "p", "max_instances": 2}}
    values = read(content, pool="MARKETS=spot\nMACHINES=9\n", environ={"PROJECT_ID": "q"}, JOB_ID="b").texts
    assert (values["JOB_ID"], values["QUEUE_URL"]) == ("b", "pubsub://q/b")
    assert (values["MARKETS"], values["MACHINES"]) == ("spot", "-2")
    chosen = read({"gcp": {"job_id": "a"}, "aws": {"job_id": "b"}}, PROVIDER="aws").texts
    assert (chosen["JOB_ID"], chosen["QUEUE_URL"]) == ("b", "sqs://b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("run:\n  max_instances: 2\n  max_instances: 3\n", "the key 'max_instances' occurs more than once in line 3"),
        (
            "run:\n  max_total_price_per_hour: 1\nrun:\n  max_instances: 9\n",
            "the key 'run' occurs more than once in line 1",
        ),
        ("run:\n  max_instances: 5\n  max-instances: 6\n", "run.max_instances and run.max-instances are both set"),
    ],
)
def test_a_key_that_occurs_twice_is_an_error(read, text, said):
    """The one that is dropped may be the limit of the price."""
    with pytest.raises(SettingsError, match=re.escape(said)):
        read(f"provider: aws\n{text}")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"use_spot": "flase"}, "aws.use_spot: 'flase' is invalid"),
        ({"retry_on_exit": "maybe"}, "aws.retry_on_exit: 'maybe' is invalid"),
        (
            {"boot_disk_base_size": 5, "total_boot_disk_size": "big"},
            "total_boot_disk_size, boot_disk_base_size: ['big', 5] is invalid",
        ),
    ],
)
def test_a_value_that_is_not_of_its_kind_is_an_error(read, keys, said):
    with pytest.raises(SettingsError, match=re.escape(said)):
        read({"provider": "aws", "aws": keys})


def test_a_switch_may_be_a_text_and_a_list_of_processors_keeps_their_spaces(read):
    texts = read({"provider": "aws", "aws": {"use_spot": "false", "cpu_family": ["AMD EPYC", "Intel*"]}}).texts
    assert (texts["MARKETS"], texts["CPU_FAMILIES"]) == ("on-demand", "AMD EPYC, Intel*")


def test_keys_without_an_equivalent_are_named_together_with_the_reason(read):
    refused = dict.fromkeys(REFUSED, "x") | {"nonsense": 1, "keepalive_timeout": 0, "instance_types": "c7(?=g)"}
    with pytest.raises(SettingsError) as caught:
        read({"provider": "aws", "aws": refused, "more": 1})
    lines = str(caught.value).splitlines()[1:]
    for name, (reason, _) in REFUSED.items():
        assert sum(f"aws.{name} has no equivalent: {reason}. Remove the key" in line for line in lines) == 1
    assert any("aws.nonsense is not a key of rms-cloud-tasks" in line for line in lines)
    assert any("more is neither a section" in line for line in lines)
    assert any("keepalive_timeout: 0 is invalid" in line for line in lines)
    assert any("the regular expression 'c7(?=g)' cannot be converted" in line for line in lines)
    assert len(lines) == len(REFUSED) + 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1", "must have keys"),
        ("a: [", "cannot be read"),
        ("provider: aws\naws: 3", "aws is 3, not a section"),
        ("provider: azure\nazure: {}", "PROVIDER='azure' is invalid"),
        ("provider: aws\naws:\n  startup_script: a\n  startup_script_file: b", "both set; remove one"),
        ("provider: aws\naws:\n  max_instances: many", "MACHINES='-many' is invalid"),
    ],
)
def test_a_bad_file_is_one_message(read, text, said):
    with pytest.raises(SettingsError) as caught:
        read(text)
    assert said in str(caught.value)


def test_every_variable_is_a_setting_or_a_fact():
    aliases = {alias for field in describe() for alias in field.aliases if alias.startswith(PREFIX)}
    others = {f"{PREFIX}{name}" for name in _VARIABLES} | {f"{PREFIX}EVENT_LOG_TO_FILE", f"{PREFIX}EVENT_LOG_TO_QUEUE"}
    assert aliases | others == set(RMS["environment"])


def test_variables_of_rms_are_settings_of_every_command(tmp_path):
    names = {"PROVIDER": "AWS", "JOB_ID": "j", "MAX_RUNTIME": "9", "RETRY_ON_EXIT": "False", "RETRY_ON_TIMEOUT": "1"}
    environ = {PREFIX + name: value for name, value in names.items()}
    found = read_configuration(env_file=None, environ=environ, start=tmp_path, needs_file=False)
    settings = found.settings
    assert (settings.job_id, settings.queue_url, found.pool.provider) == ("j", "sqs://j", "aws")
    assert (settings.max_runtime_seconds, settings.retries_on_exit, settings.retries_on_timeout) == (9.0, 0, 10)
    with pytest.raises(SettingsError, match="both set"):
        read_configuration(env_file=None, environ=environ | {"JOB_ID": "k"}, start=tmp_path, needs_file=False)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ledger", (None, None, None, False)),
        ("sqs://tasks?region=eu-west-1", ("AWS", None, "tasks", True)),
        ("https://sqs.us-east-1.amazonaws.com/123456789012/tasks", ("AWS", None, "tasks", True)),
        ("pubsub://proj/tasks", ("GCP", "proj", "tasks", True)),
        ("postgresql://me@host/db", (None, None, "job", True)),
    ],
)
def test_the_queue_is_described_as_there(tmp_path, url, expected):
    found = read_configuration(flags={"QUEUE_URL": url}, env_file=None, environ={}, start=tmp_path, needs_file=False)
    values = rms_attributes(found, {})
    names = ("provider", "project_id", "queue_name")
    assert (*(values.get(name) for name in names), values.get("event_log_to_queue", False)) == expected
    separator = "/" if url.startswith("postgres") else "-"
    assert values.get("event_log_queue_name") == (f"{expected[2]}{separator}events" if expected[3] else None)


def test_a_fact_that_is_no_number_is_a_wrong_setting(tmp_path):
    found = read_configuration(env_file=None, environ={}, start=tmp_path, needs_file=False)
    with pytest.raises(SettingsError, match="RMS_CLOUD_TASKS_INSTANCE_PRICE='cheap' is invalid"):
        rms_attributes(found, {f"{PREFIX}INSTANCE_PRICE": "cheap"})
