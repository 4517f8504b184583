"""Reading settings: precedence, and what is rejected."""

import codecs
import re
from pathlib import Path

import pytest
from taskfleet.errors import SettingsError
from taskfleet.machine_terms import Range
from taskfleet.settings import Settings, describe, read_configuration
from taskfleet.settings.declaring import PROVIDER_GROUPS
from taskfleet.settings.environment import worker_environment
from taskfleet.settings.pool_fields import PoolSettings
from taskfleet.settings.provider_fields import PROVIDER_SETTINGS
from taskfleet.settings.reader import find_project, is_reference
from taskfleet.settings.reference import pool_env, task_env

FIELDS = {field.name: field for field in describe()}
TEXTS = [
    "gpu metal",
    "fpga",
    "2",
    "3",
    "true",
    "false",
    "task_a:run",
    "task_b:run",
    "fq://one",
    "fq://two",
    "keep",
    "rerun",
    "spawn",
    "forkserver",
    "exit=1",
    "exit=2",
    "spot",
    "on-demand",
    "kill",
    "retry",
    "aws",
    "gcp",
    "x86_64",
    "arm64",
    "git",
    "image",
]
PLACES = ["flag", "environment", "file", "default"]


def samples(field):
    """Return two valid texts with different values; the first one is not the default."""
    values = {}
    for text in TEXTS:
        try:
            values.setdefault(field.parse(text), text)
        except ValueError:
            continue
    default = field.parse(field.default)
    first = next(text for value, text in values.items() if value != default)
    second = next(text for value, text in values.items() if text != first)
    return first, second


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "task.env").touch()
    return folder


@pytest.fixture
def read(project, tmp_path):
    """Reads a file of this text; the user is in ``tmp_path/user``."""
    user = tmp_path / "user"
    user.mkdir()

    def read(text="", *, flags=None, environ=None, env_file=None, start=project):
        data = text if isinstance(text, bytes) else text.encode()
        (project / "config" / "task.env").write_bytes(data)
        environ = {"POE_PWD": str(user), **(environ or {})}
        return read_configuration(flags=flags or {}, env_file=env_file, environ=environ, start=start)

    return read


def errors_of(error):
    """Return the single errors in the message of a SettingsError."""
    first, *lines = str(error.value).splitlines()
    assert first == "Invalid settings:"
    assert all(line.startswith("  - ") for line in lines)
    return [line[4:] for line in lines]


# --- precedence ---


@pytest.mark.parametrize("higher", PLACES[:3])
@pytest.mark.parametrize("name", FIELDS)
def test_flag_before_environment_before_file_before_default(read, tmp_path, name, higher):
    field = FIELDS[name]
    good, other = samples(field)
    texts = dict.fromkeys(PLACES[PLACES.index(higher) + 1 : 3], other) | {higher: good}
    configuration = read(
        f"{name}={texts['file']}\n" if "file" in texts else "",
        environ={name: texts["environment"]} if "environment" in texts else {},
        flags={name: texts["flag"]} if "flag" in texts else {},
    )
    expected = field.parse(good)
    if higher == "flag" and field.is_path and not is_reference(good):
        expected = str(tmp_path / "user" / good)
    assert configuration.values()[name] == expected
    [place] = [configuration.places[name]]
    assert {"flag": field.flag, "environment": "the environment", "file": "task.env, line 1"}[higher] in place


def test_nothing_given_is_the_default(read, project):
    configuration = read()
    assert configuration.settings == Settings()
    assert configuration.places == {}
    assert configuration.exports == {}
    assert configuration.project == project
    assert configuration.ledger_path == project / "jobs" / "job.db"


@pytest.mark.parametrize("name", FIELDS)
def test_an_empty_value_in_the_file_is_the_default(read, name):
    assert read(f"{name}=\n").settings == Settings()


def test_an_empty_variable_of_the_environment_does_not_count(read):
    assert read("SLOTS=3\n", environ={"SLOTS": ""}).settings.slots == 3


def test_an_empty_flag_asks_for_the_default(read):
    assert read("MAX_TASKS=3\n", environ={"MAX_TASKS": "4"}, flags={"MAX_TASKS": ""}).settings.max_tasks is None


def test_the_environments_other_variables_are_not_ours(read):
    assert read(environ={"HOME": "/x", "JOB": "x", "slots": "x", "TASKFLEET": "y"}).settings == Settings()


# --- errors ---


def test_one_message_has_all_errors(read):
    text = "JOB_ID=1\nSLOT=2\nSLOTS=many\nSLOTS=3\nnonsense\nexport JOB_ID=x\n"
    with pytest.raises(SettingsError) as error:
        read(text, environ={"LEASE_SECONDS": "0"}, flags={"MAX_TASKS": "none"})
    assert [re.sub(r"\S*/task\.env", "FILE", one) for one in errors_of(error)] == [
        "FILE, line 2: unknown setting SLOT. Did you mean SLOTS? For a variable of your own: export SLOT=…",
        "FILE, line 4: SLOTS is already set in FILE, line 3",
        "FILE, line 5: 'nonsense' does not have the form NAME=value",
        "FILE, line 6: JOB_ID is a setting; remove 'export'",
        "FILE, line 1: JOB_ID='1' is invalid; expected a letter, then at most 62 letters, digits, '-' or '_'",
        "FILE, line 3: SLOTS='many' is invalid; expected 'auto' or a whole number from 1 to 4096",
        "the environment: LEASE_SECONDS='0' is invalid; expected a number of at least 1",
        "the command line (--max-tasks): MAX_TASKS='none' is invalid; expected a whole number of at least 1",
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("LEASE_SECOND", " Did you mean LEASE_SECONDS?"),
        ("job_id", " Did you mean JOB_ID?"),
        ("RETRIES_ON_EXCEPTIONS", " Did you mean RETRIES_ON_EXCEPTION?"),
        ("TASKQUEUE_PAHT", " Did you mean TASKQUEUE_PATH?"),
        ("COLOUR", ""),
    ],
)
def test_an_unknown_setting_comes_with_a_suggestion(read, name, hint):
    with pytest.raises(SettingsError) as error:
        read(f"{name}=1\n")
    [one] = errors_of(error)
    assert f"unknown setting {name}.{hint} For a variable of your own: export {name}=…" in one


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("X=1", 1),
        ("\n\nX=1", 3),
        ("# a\n\n# b\nX=1\n", 4),
        ("  X=1\n", 1),
        ("JOB_ID=a\n  X=1\n", 2),
        ("JOB_ID=a\n\n \t X=1\n", 3),
        ("export A='1\n2\n3'\nX=1\n", 4),
        ("\r\nX=1\r\n", 2),
        ("  nonsense\n", 1),
    ],
)
def test_an_error_names_its_line(read, text, line):
    with pytest.raises(SettingsError, match=rf"task\.env, line {line}: "):
        read(text)


@pytest.mark.parametrize("text", ["JOB_ID", "JOB_ID a", "=a", "export", "export A", "JOB_ID='a", "a b=c"])
def test_what_is_no_setting_is_rejected(read, text):
    with pytest.raises(SettingsError, match=r"line 2: .* does not have the form NAME=value"):
        read(f"SLOTS=2\n{text}\n")


# --- aliases ---

ALIASES = {alias: field for field in FIELDS.values() for alias in field.aliases}


ALIAS_CASES = [
    ("TASKQUEUE_PATH", "QUEUE_URL", "fq://x", "fq://x"),
    ("TQ_LEASE_SECONDS", "LEASE_SECONDS", "45", 45.0),
    ("TASK_PARAMETER_FILENAME", "TASK_TABLE", "table", "table.feather"),
    ("TASK_PARAMETER_FILENAME", "TASK_TABLE", "folder/table.csv", "folder/table.csv"),
    ("CF_CLOUDPATH", "OUTPUT_PATH", "gs://bucket/x", "gs://bucket/x"),
    ("RMS_CLOUD_TASKS_PROVIDER", "PROVIDER", "GCP", "gcp"),
    ("RMS_CLOUD_TASKS_PROJECT_ID", "PROJECT_ID", "proj", "proj"),
    ("RMS_CLOUD_TASKS_JOB_ID", "JOB_ID", "a-job", "a-job"),
    ("RMS_CLOUD_TASKS_TASK_FILE", "TASK_TABLE", "a.json", "a.json"),
    ("RMS_CLOUD_TASKS_NUM_TASKS_PER_INSTANCE", "SLOTS", "3", 3),
    ("RMS_CLOUD_TASKS_TO_SKIP", "SKIP_TASKS", "4", 4),
    ("RMS_CLOUD_TASKS_MAX_NUM_TASKS", "MAX_TASKS", "5", 5),
    ("RMS_CLOUD_TASKS_MAX_RUNTIME", "MAX_RUNTIME_SECONDS", "60", 60.0),
    ("RMS_CLOUD_TASKS_MAX_MEMORY_ALLOWED_PER_TASK", "MEMORY_LIMIT_GIB", "1.5", 1.5),
    ("RMS_CLOUD_TASKS_SHUTDOWN_GRACE_PERIOD", "SHUTDOWN_GRACE_SECONDS", "6", 6.0),
    ("RMS_CLOUD_TASKS_RETRY_ON_EXCEPTION", "RETRIES_ON_EXCEPTION", "True", 10),
    ("RMS_CLOUD_TASKS_RETRY_ON_TIMEOUT", "RETRIES_ON_TIMEOUT", "1", 10),
    ("RMS_CLOUD_TASKS_RETRY_ON_EXIT", "RETRIES_ON_EXIT", "None", 0),
    ("RMS_CLOUD_TASKS_EVENT_LOG_FILE", "EVENT_FILE", "e.log", "e.log"),
    ("RMS_CLOUD_TASKS_SIMULATE_SPOT_TERMINATION_AFTER", "SIMULATE_SPOT_TERMINATION_AFTER_SECONDS", "7", 7.0),
    ("RMS_CLOUD_TASKS_SIMULATE_SPOT_TERMINATION_DELAY", "SIMULATE_SPOT_TERMINATION_DELAY_SECONDS", "8", 8.0),
]


@pytest.mark.parametrize("where", ["file", "environment"])
@pytest.mark.parametrize(("alias", "name", "text", "value"), ALIAS_CASES)
def test_aliases_are_accepted(read, where, alias, name, text, value):
    configuration = read(f"{alias}={text}") if where == "file" else read(environ={alias: text})
    assert configuration.values()[name] == value
    assert configuration.places[name].endswith(f"({alias})")


def test_a_queue_that_is_described_by_its_provider_and_name_yields_to_a_url(read):
    described = {"RMS_CLOUD_TASKS_PROVIDER": "AWS", "RMS_CLOUD_TASKS_JOB_ID": "a-job"}
    found = read(environ=described)
    assert found.settings.queue_url == "sqs://a-job"
    assert "RMS_CLOUD_TASKS_PROVIDER" in found.places["QUEUE_URL"]
    for name in ("QUEUE_URL", "TASKQUEUE_PATH"):
        assert read(environ=described | {name: "fq://x"}).settings.queue_url == "fq://x"


def test_every_alias_is_tested_and_its_empty_value_is_the_default(read):
    assert set(ALIASES) == {alias for alias, *_ in ALIAS_CASES}
    for alias in ALIASES:
        assert read(f"{alias}=\n").settings == Settings()


@pytest.mark.parametrize("where", ["file", "environment"])
@pytest.mark.parametrize("alias", ALIASES)
def test_a_name_and_its_alias_at_once_are_rejected(read, where, alias):
    name = ALIASES[alias].name
    good, other = samples(ALIASES[alias])
    text = f"{name}={good}\n{alias}={other}\n" if where == "file" else ""
    environ = {name: good, alias: other} if where == "environment" else {}
    with pytest.raises(SettingsError, match=rf"{name} and its alias {alias} are both set"):
        read(text, environ=environ)


def test_an_alias_in_the_environment_overrides_the_name_in_the_file(read):
    assert read("LEASE_SECONDS=40\n", environ={"TQ_LEASE_SECONDS": "50"}).settings.lease_seconds == 50.0
    assert read("TQ_LEASE_SECONDS=40\n", environ={"LEASE_SECONDS": "50"}).settings.lease_seconds == 50.0


def test_the_error_of_a_bad_value_names_the_alias(read):
    with pytest.raises(SettingsError, match=r"line 1 \(TQ_LEASE_SECONDS\): LEASE_SECONDS='0' is invalid"):
        read("TQ_LEASE_SECONDS=0\n")


# --- what a file may look like ---


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("OUTPUT_PATH=a b", "a b"),
        ("OUTPUT_PATH = a", "a"),
        ("   OUTPUT_PATH=a   ", "a"),
        ("OUTPUT_PATH='a b '", "a b "),
        ('OUTPUT_PATH="a b "', "a b "),
        ("OUTPUT_PATH=a # a comment", "a"),
        ("OUTPUT_PATH='a # b' # a comment", "a # b"),
        ("OUTPUT_PATH=a#b", "a#b"),
        ("OUTPUT_PATH=$HOME/${X}", "$HOME/${X}"),
        ('OUTPUT_PATH="$HOME/${X}"', "$HOME/${X}"),
        ("OUTPUT_PATH=a=b", "a=b"),
        ("OUTPUT_PATH=ä✓", "ä✓"),
        ("OUTPUT_PATH='it\\'s'", "it's"),
        ('OUTPUT_PATH="a\\nb"', "a\nb"),
        ("OUTPUT_PATH='a\nb'", "a\nb"),
        ("# OUTPUT_PATH=a", None),
        ("OUTPUT_PATH=''", None),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_quotes_spaces_and_comments(read, line, value, ending):
    assert read(f"# first\n{line}{ending}").settings.output_path == value


def test_a_byte_order_mark_is_skipped(read):
    assert read(codecs.BOM_UTF8 + b"JOB_ID=marked\r\n").settings.job_id == "marked"


def test_windows_line_ends_are_line_ends(read):
    configuration = read("JOB_ID=a\r\nSLOTS=3\r\nexport A=x\r\n")
    assert (configuration.settings.job_id, configuration.settings.slots) == ("a", 3)
    assert configuration.exports == {"A": "x"}


def test_what_is_not_utf8_is_rejected(read):
    with pytest.raises(SettingsError, match=r"task\.env is not UTF-8 text: .* at byte 7"):
        read(b"JOB_ID=\xff\n")


def test_export_lines_are_the_users_own(read):
    configuration = read("export A=1\nexport  B_2 = 'x y'\n  export c=\nexport TASKFLEET=$A\n")
    assert configuration.exports == {"A": "1", "B_2": "x y", "c": "", "TASKFLEET": "$A"}
    assert configuration.settings == Settings()


@pytest.mark.parametrize("name", ["SLOTS", "TASKQUEUE_PATH"])
def test_a_setting_is_not_exported(read, name):
    with pytest.raises(SettingsError, match=f"{name} is a setting; remove 'export'"):
        read(f"export {name}=3\n")


def all_of_pool(values):
    """Return the lines of every provider's file, each setting once."""
    lines = "".join(pool_env(provider, values) for provider in PROVIDER_GROUPS).splitlines(keepends=True)
    others = tuple(f"PROVIDER={name}\n" for name in PROVIDER_GROUPS if name != PoolSettings().provider)
    return "".join(line for line in dict.fromkeys(lines) if not line.startswith(("# ", *others)))


def test_the_generated_file_gives_the_defaults(read):
    assert read(task_env({})).settings == Settings()
    assert read(task_env({})).places == {}


def test_the_generated_file_with_every_line_active_gives_the_defaults(read):
    values = {name: field.default for name, field in FIELDS.items()}
    configuration = read(task_env(values) + all_of_pool(values))
    assert (configuration.settings, configuration.pool) == (Settings(), PoolSettings())
    assert configuration.of_providers == {kind: kind() for kind in PROVIDER_SETTINGS}
    assert set(configuration.places) == set(FIELDS)


def test_the_generated_file_uncommented_gives_the_defaults(read):
    text = re.sub(r"^#(?=[A-Z_]+=)", "", task_env({}) + all_of_pool({}), flags=re.MULTILINE)
    configuration = read(text)
    assert (configuration.settings, configuration.pool) == (Settings(), PoolSettings())
    assert configuration.of_providers == {kind: kind() for kind in PROVIDER_SETTINGS}
    assert set(configuration.places) == set(FIELDS)


def test_the_generated_file_carries_values_and_exports(read):
    configuration = read(task_env({"JOB_ID": "mine", "SLOTS": "3"}, exports="\nexport A=1\n"))
    assert (configuration.settings.job_id, configuration.settings.slots) == ("mine", 3)
    assert configuration.exports == {"A": "1"}


def test_the_file_of_the_pool_is_read_besides_and_a_named_file_comes_before_it(read, project):
    (project / "config" / "pool.env").write_text("MACHINES=1-3\nCPUS=4\nexport A=1\n")
    configuration = read("CPUS=8\n")
    assert (configuration.pool.machines, configuration.pool.cpus) == (Range(1, 3), Range(8, 8))
    assert configuration.exports == {"A": "1"}
    assert read(env_file="config/pool.env").pool.cpus == Range(4, 4)
    (project / "config" / "pool.env").write_text("MACHINES=1-3\nCPU=4\n")
    with pytest.raises(SettingsError, match=r"pool\.env, line 2: unknown setting CPU\."):
        read()


# --- which file, which folder ---


def test_a_project_without_a_file_says_so(tmp_path):
    with pytest.raises(SettingsError, match=rf"There is no config/task\.env in {tmp_path} or above it.*-e FILE"):
        read_configuration(flags={}, env_file=None, environ={}, start=tmp_path)


def test_a_named_file_is_looked_for_at_the_user_and_then_in_the_project(read, project, tmp_path):
    user = tmp_path / "user"
    (project / "other.env").write_text("JOB_ID=projects")
    assert read("JOB_ID=default", env_file="other.env").settings.job_id == "projects"
    (user / "other.env").write_text("JOB_ID=users")
    assert read("JOB_ID=default", env_file="other.env").settings.job_id == "users"
    assert read(env_file=str(project / "other.env")).settings.job_id == "projects"
    assert read(env_file="../project/other.env").settings.job_id == "projects"


def test_a_named_file_that_is_missing_says_where_it_was_looked_for(read, project, tmp_path):
    with pytest.raises(SettingsError) as error:
        read(env_file="x.env")
    assert str(error.value) == (f"-e x.env: no such file (searched: {tmp_path}/user/x.env and {project}/x.env).")
    with pytest.raises(SettingsError, match=r"-e /x\.env: no such file \(searched: /x\.env\)"):
        read(env_file="/x.env")
    with pytest.raises(SettingsError, match="no such file"):
        read(env_file=".")


def test_without_poe_the_users_folder_is_the_current_one(project, monkeypatch, tmp_path):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("x.env").write_text("JOB_ID=here")
    configuration = read_configuration(
        flags={"TASK_TABLE": "t.csv"}, env_file="x.env", environ={"POE_PWD": ""}, start=project
    )
    assert configuration.settings.job_id == "here"
    assert configuration.settings.task_table == str(tmp_path / "here" / "t.csv")


PATHS = [name for name, field in FIELDS.items() if field.is_path]


@pytest.mark.parametrize("name", PATHS)
def test_relative_paths_of_flags_start_at_the_user(read, tmp_path, name):
    def value(text):
        return getattr(read(flags={name: text}).settings, name.lower())

    user = tmp_path / "user"
    assert value("a/b.csv") == str(user / "a/b.csv")
    assert value("../b.csv") == str(user / "../b.csv")
    assert value("/a/b.csv") == "/a/b.csv"
    assert value("~/b.csv") == str(Path("~/b.csv").expanduser())
    assert value("s3://bucket/b.csv") == "s3://bucket/b.csv"


@pytest.mark.parametrize("name", PATHS)
def test_relative_paths_of_files_and_of_the_environment_stay(read, name):
    assert getattr(read(f"{name}=a/b.csv").settings, name.lower()) == "a/b.csv"
    assert getattr(read(environ={name: "a/b.csv"}).settings, name.lower()) == "a/b.csv"


def test_a_generator_is_no_path(read):
    assert read(flags={"TASK_TABLE": "my.module:rows"}).settings.task_table == "my.module:rows"


def test_the_tables_and_the_ledgers_paths_are_paths():
    assert set(PATHS) == {"LEDGER_PATH", "TASK_TABLE", "EVENT_FILE", "RESULTS_PATH"}


def test_the_project_is_found_from_its_folders(read, project):
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    assert find_project(deep) == project
    assert find_project(project) == project
    assert read("JOB_ID=found", start=deep).settings.job_id == "found"
    assert read(start=deep).project == project


def test_the_nearest_project_is_meant(project):
    inner = project / "inner"
    (inner / "config").mkdir(parents=True)
    assert find_project(inner) == project
    (inner / "config" / "task.env").touch()
    assert find_project(inner / "config") == inner


def test_without_a_project_the_start_is_accepted(tmp_path):
    assert find_project(tmp_path) == tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "{project}/jobs/job.db"),
        ("JOB_ID=mine", "{project}/jobs/mine.db"),
        ("LEDGER_PATH=a/b.db", "{project}/a/b.db"),
        ("LEDGER_PATH=/a/{job_id}/{job_id}.db\nJOB_ID=x", "/a/x/x.db"),
        ("LEDGER_PATH=a/{other}-{0}-{}-{.db", "{project}/a/{other}-{0}-{}-{.db"),
        ("LEDGER_PATH=~/b.db", "{home}/b.db"),
        ("QUEUE_URL=fq://q\nJOB_ID=x", "{project}/q/x.db"),
        ("QUEUE_URL=fq:///q/r", "/q/r/job.db"),
        ("QUEUE_URL=fq://~/q", "{home}/q/job.db"),
    ],
)
def test_where_the_ledger_is(read, project, text, expected):
    expected = expected.replace("{project}", str(project)).replace("{home}", str(Path.home()))
    assert str(read(text).ledger_path) == expected


@pytest.mark.parametrize(
    ("text", "pool", "expected"),
    [
        ("JOB_ID=x", "", "{project}/jobs/x.results"),
        ("RESULTS_PATH=a", "", "{project}/a"),
        ("RESULTS_PATH=s3://b/c\nQUEUE_URL=sqs://x", "BUCKET=s3://code/f\n", "s3://b/c"),
        ("JOB_ID=x\nQUEUE_URL=sqs://x", "BUCKET=s3://code/f/\n", "s3://code/f/x/results"),
        ("JOB_ID=x\nQUEUE_URL=sqs://x", "", ""),
        ("JOB_ID=x\nQUEUE_URL=postgresql://h/d", "", ""),
        ("JOB_ID=x\nQUEUE_URL=fq://q", "BUCKET=s3://code\n", "{project}/q/x.results"),
    ],
)
def test_where_large_values_of_graphs_are(read, project, text, pool, expected):
    """Workers of a service queue may be anywhere, so a folder beside the ledger is no default for them."""
    (project / "config" / "pool.env").write_text(pool)
    assert read(text).results_path == expected.replace("{project}", str(project))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("JOB_ID=x\nQUEUE_URL=sqs://x", "s3://code/x/results"), ("RESULTS_PATH=a", "a"), ("JOB_ID=x", None)],
)
def test_a_worker_elsewhere_is_told_the_bucket_of_large_values(read, project, text, expected):
    (project / "config" / "pool.env").write_text("BUCKET=s3://code\n")
    environment = worker_environment(read(text))
    assert environment.get("RESULTS_PATH") == expected
    assert environment.get("BUCKET") == ("s3://code" if "sqs" in text else None)  # it has the control document
