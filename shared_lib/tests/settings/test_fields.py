"""The declaration of each setting, and the values that its parser accepts."""

import math
import re

import pytest
from taskfleet.settings import Settings, describe
from taskfleet.settings import fields as module
from taskfleet.settings.declaring import GROUPS, POOL_GROUPS, PROVIDER_GROUPS
from taskfleet.settings.describing import KINDS
from taskfleet.settings.parsers import span
from taskfleet.settings.reference import pool_env, table, task_env

FIELDS = {field.name: field for field in describe()}
WHOLE = [name for name, field in FIELDS.items() if field.default.isdigit() and field.metavar == "N"]


def parsed(name, text):
    return FIELDS[name].parse(text)


def error_of(field, text):
    """Return the parser's error for a text, empty if it accepts it."""
    try:
        field.parse(text)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
class TestEveryField:
    def test_its_sentence_is_one(self, field):
        assert re.match(r"[A-Z]", field.sentence)
        assert field.sentence.endswith(".")
        assert "\n" not in field.sentence

    def test_its_name_and_its_flag_can_be_typed(self, field):
        assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", field.name)
        assert re.fullmatch(r"--[a-z]+(-[a-z]+)*", field.flag)

    def test_its_group_is_shown(self, field):
        assert field.group in GROUPS

    def test_its_default_is_what_one_would_write(self, field):
        name = field.name.lower()
        [kind] = [kind for kind in KINDS if hasattr(kind, name)]
        assert field.parse(field.default) == getattr(kind(), name)

    def test_errors_of_bad_values_do_not_come_from_python(self, field):
        texts = ["", "\0", "-1", "nan", "1__0", "9" * 5000, "x y"]
        assert not [text for text in texts if re.search(r"invalid lit|not convert|Exceeds", error_of(field, text))]

    def test_it_is_in_the_reference(self, field):
        assert f"| `{field.name}` | `{field.flag} " in table()
        line = re.compile(rf"^#{field.name}={re.escape(field.default)}$", re.MULTILINE)
        assert bool(line.search(task_env({}))) == (field.group not in POOL_GROUPS)
        for provider, groups in PROVIDER_GROUPS.items():
            if field.name != "PROVIDER":  # which is set
                assert bool(line.search(pool_env(provider, {}))) == (field.group in groups)


def test_names_and_flags_are_unique():
    fields = describe()
    names = [name for field in fields for name in (field.name, *field.aliases)]
    assert len(set(names)) == len(names)
    assert len({field.flag for field in fields}) == len(fields)


def test_every_group_has_a_field():
    assert {field.group for field in describe()} == set(GROUPS)


def test_the_defaults_are_the_documented_ones():
    settings = Settings()
    assert (settings.job_id, settings.queue_url, settings.ledger_path) == ("job", "ledger", "jobs/{job_id}.db")
    assert (settings.task_function, settings.task_table, settings.output_path) == ("task:run_task", "tasks.json", None)
    assert (settings.start_task, settings.insert_limit, settings.skip_tasks, settings.max_tasks) == (0, None, 0, None)
    assert (settings.slots, settings.tasks_per_process, settings.keep_waiting) == (None, 1, False)
    assert (settings.lease_seconds, settings.shutdown_grace_seconds) == (30.0, 30.0)
    assert (settings.max_runtime_seconds, settings.memory_limit_gib) == (None, None)
    assert (settings.retries_on_exception, settings.retries_on_exit, settings.retries_on_lost) == (0, 1, 5)
    assert (settings.retries_on_timeout, settings.retries_on_memory, settings.retries_on_request) == (0, 0, 10)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("JOB_ID", "a", "a"),
        ("JOB_ID", "Z" + "9_-" * 20 + "ab", "Z" + "9_-" * 20 + "ab"),
        ("QUEUE_URL", "fq://some/folder", "fq://some/folder"),
        ("QUEUE_URL", "fq:///x", "fq:///x"),
        ("QUEUE_URL", "sqs://x", "sqs://x"),
        ("QUEUE_URL", "sqs://x-eventsful?region=--", "sqs://x-eventsful?region=--"),
        ("QUEUE_URL", "pubsub://project/x", "pubsub://project/x"),
        ("QUEUE_URL", "pubsub://pro--ject/x", "pubsub://pro--ject/x"),
        ("QUEUE_URL", "postgresql://h/a--b-events", "postgresql://h/a--b-events"),
        ("QUEUE_URL", "postgresql://me@host/base", "postgresql://me@host/base"),
        ("TASK_FUNCTION", "pkg.mod_1:_f2", "pkg.mod_1:_f2"),
        ("OUTPUT_PATH", "", None),
        ("OUTPUT_PATH", "gs://bucket/a b", "gs://bucket/a b"),
        ("INSERT_LIMIT", "1", 1),
        ("INSERT_LIMIT", "", None),
        ("START_TASK", "0", 0),
        ("START_TASK", "1_000_000", 1_000_000),
        ("SLOTS", "auto", None),
        ("SLOTS", "1", 1),
        ("SLOTS", "4096", 4096),
        ("SHARED_LEDGER", "auto", None),
        ("SHARED_LEDGER", "no", False),
        ("TASKS_PER_MESSAGE", "auto", None),
        ("TASKS_PER_MESSAGE", "1000", 1000),
        ("LEASE_SECONDS", "1", 1.0),
        ("LEASE_SECONDS", "2.5e1", 25.0),
        ("SHUTDOWN_GRACE_SECONDS", "0", 0.0),
        ("MAX_RUNTIME_SECONDS", "1e-9", 1e-9),
        ("MAX_RUNTIME_SECONDS", "", None),
        ("MEMORY_LIMIT_GIB", "0.5", 0.5),
        ("RETRIES_ON_LOST", "900", 900),
        ("RETRIES_ON_LOST", "0", 0),
        ("RETRY_DELAYS", "", ()),
        (
            "RETRY_DELAYS",
            "exit=10..600, timeout=0.5 lost=0",
            (("exit", 10.0, 600.0), ("timeout", 0.5, None), ("lost", 0.0, None)),
        ),
        *[("VERBOSE", text, True) for text in ("true", "True", "YES", "on", "1")],
        *[("VERBOSE", text, False) for text in ("false", "No", "OFF", "0")],
    ],
)
def test_good_values_are_accepted(name, text, value):
    found = parsed(name, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "texts", "wanted"),
    [
        ("JOB_ID", ["", "1a", "_a", "-a", "a b", "a.b", "a/b", "ä", "a" * 64, "a\n"], "a letter, then at most 62"),
        ("QUEUE_URL", ["", "Ledger", "fq:/x", "fq://", "ftp://x"], "'ledger'"),
        (
            "QUEUE_URL",
            [
                "sqs://a--gpu",
                "sqs://a-events?region=r",
                "https://sqs.r.amazonaws.com/1/a-board",
                "pubsub://p/a--b",
                "pubsub://a-dead/",
            ],
            "a name of a queue that has no '--'",
        ),
        ("TASK_FUNCTION", ["", "task", "task:", ":f", "1a:f", "a:b:c", "a:f()", "a b:f"], "module:function"),
        ("START_TASK", ["", "-1", "1.0", "1e3", "x", "1_", "_1", "1__0", "+1", " 1", "²", "9" * 30], "a whole number"),
        ("INSERT_LIMIT", ["0", "-1", "1.5", "all"], "a whole number of at least 1"),
        ("SLOTS", ["", "0", "4097", "-1", "Auto", "1.5", "9" * 5000], "'auto' .* from 1 to 4096"),
        ("SHARED_LEDGER", ["", "maybe", "Auto"], "'auto' or true or false"),
        ("TASKS_PER_MESSAGE", ["", "0", "1001"], "'auto' or a whole number from 1 to 1000"),
        ("RETRIES_ON_EXIT", ["901", "-1", "", "many"], "a whole number from 0 to 900"),
        ("LEASE_SECONDS", ["0.999", "0", "-5", "", "nan", "inf", "1e999", "30s"], "a number of at least 1"),
        ("SHUTDOWN_GRACE_SECONDS", ["-0.001", "-inf", "soon"], "a number of at least 0"),
        ("MAX_RUNTIME_SECONDS", ["0", "-1", "nan", "inf", "1 h"], "a number above 0"),
        ("MEMORY_LIMIT_GIB", ["0", "16GB"], "a number above 0"),
        ("MAX_RESULT_MIB", ["0", "900.1", "1024"], "a number above 0 and at most 900"),
        (
            "RETRY_DELAYS",
            ["exit", "exit=", "exit=-1", "crash=1", "exit=5..1", "exit=1 exit=2", "exit=1.."],
            "kind=first",
        ),
        ("KEEP_WAITING", ["", "y", "2", "maybe", "tru"], "true or false"),
    ],
)
def test_bad_values_are_rejected_with_the_accepted_values(name, texts, wanted):
    for text in texts:
        with pytest.raises(ValueError, match=wanted):
            parsed(name, text)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_fit_into_the_ledger(name):
    with pytest.raises(ValueError, match="a whole number"):
        parsed(name, str(2**63))


def test_what_is_optional_is_none_only_when_empty():
    parse = module.optional(module.whole(0))
    assert parse("") is None
    assert parse("0") == 0


def test_numbers_are_finite():
    parse = module.number(-5)
    assert parse("-5") == -5.0
    assert math.isfinite(parse("1e308"))
    with pytest.raises(ValueError, match="at least -5"):
        parse("-5.1")


@pytest.mark.parametrize(
    ("platform", "method", "others"),
    [("linux", "fork", ("spawn", "forkserver")), ("darwin", "spawn", ("fork", "forkserver")), ("win32", "spawn", ())],
)
def test_the_start_method_suits_the_system(monkeypatch, platform, method, others):
    monkeypatch.setattr("sys.platform", platform)
    assert module.start_method("auto") == module.start_method(method) == method
    assert [module.start_method(other) for other in others] == list(others)
    for unknown in {"", "Fork", "threads", "fork", "forkserver"} - {method, *others}:
        with pytest.raises(ValueError, match=r"'auto' or (fork or )?spawn"):
            module.start_method(unknown)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", None, None),
        ("8", 8, 8),
        ("4-16", 4, 16),
        ("4-", 4, None),
        ("-16", None, 16),
        ("0.5-1.5", 0.5, 1.5),
        (" 2-3 ", 2, 3),
    ],
)
def test_a_range_is_read_and_written_alike(text, low, high):
    found = span(text)
    assert (found.low, found.high) == (low, high)
    assert span(str(found)) == found


@pytest.mark.parametrize("text", ["-", "a", "4--5", "16-4", "1e3", "1,5", "4 - 5", "nan-"])
def test_what_is_no_range_is_rejected(text):
    with pytest.raises(ValueError, match="range"):
        span(text)
