"""Messages that this library did not write, or that are damaged, are refused with the reason, whatever they contain."""

import json
import random
from contextlib import closing, suppress

import pytest
from taskfleet.ledger import calls, insertion, queries, recording
from taskfleet.ledger.checks import check
from taskfleet.ledger.database import create
from taskfleet.messages import events, fields, tasks
from taskfleet.messages.formats import ForeignMessageError, MisdirectedMessageError
from taskfleet.queues.transport import text_of
from taskfleet.tasks import Outcome
from taskfleet.watch.status import gather
from taskfleet.watch.text import final_report, status_report

T0 = 1_700_000_000.0
TASKS = (
    '{"taskfleet":1,"job":"job","ledger":"1.5","tasks":[[7,"t-7",0,[]],[8,"t-8",3,[[1,2],[5,1]]]],"not_before":1.5,'
    '"claimed_by":"w/1","claimed_until":2.5}\n{"n": 1}\n{"n": [null, true, 2.5, "x"]}'
)
EVENTS = (
    '{"taskfleet":1,"job":"job","ledger":"1.5","worker":["w|1|2","host",77,2,1700000001.5,"i-0123"],"number":3,'
    '"told_at":1700000002.75,"end_reason":"","leased":[[1,1],[2,1]],"returned":[[3,1]],"version":"0.1.0","ended":3}\n'
    '[1,1,0,1700000001.0,0.5,true,null,"printed\\n",null,null,12.5,null]\n'
    '{"square": 16}\n'
    '[2,1,3,1700000001.25,0.25,false,"killed by SIGSEGV",null,null,-11,null,2.0]\n'
    '[3,2,7,1700000001.5,0.125,false,"later",null,30.0,null,null,30.0]'
)
MODULES = {"tasks": (tasks, TASKS), "events": (events, EVENTS)}
HUGE = "1" * 4301


def test_the_messages_that_are_damaged_here_are_sound():
    assert len(tasks.unpack(TASKS).tasks) == 2
    assert len(events.unpack(EVENTS).ended) == 3


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "\n\n\n",
        "\x00\x1b[2J",
        "[" * 200_000,
        '{"taskfleet":' * 50_000,
        HUGE,
        "Infinity",
        '{"taskfleet": Infinity}',
        '{"taskfleet": 1e999}',
        '{"taskfleet": true}',
        '{"taskfleet": "1"}',
        '{"taskfleet": -1}',
        '{"taskfleet": 99999999999999999999}',
        f'{{"taskfleet": {HUGE}}}',
        '{"taskfleet": [1]}',
        "\ud800",
        text_of(b"\xff\xfe\x00", 100),
        text_of(TASKS.encode(), 10),
        "H4sIAAAAAAAAA0tMSgYAwkEkNQMAAAA=",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_message_is_refused(name, body):
    module, _ = MODULES[name]
    with pytest.raises(ForeignMessageError, match="taskfleet did not write") as caught:
        module.unpack(body)
    assert len(str(caught.value)) < 600


def places(value, path=()):
    """Yield the path of every value in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def replaced(value, path, new):
    """Return a JSON value with another value at a path."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


#: Values that hardly any field may have.
STRANGE = [
    None,
    True,
    -1,
    -1.5,
    2**63,
    10**300,
    1.5e300,
    float("inf"),
    float("nan"),
    "",
    "x",
    "\ud800",
    [],
    {},
    [[]],
    {"a": 1},
]


def variants():
    """Yield every sound message with each of its values replaced by each of the strange ones."""
    for name, (_, text) in MODULES.items():
        lines = text.split("\n")
        for number, line in enumerate(lines):
            value = json.loads(line)
            for path in places(value):
                for new in STRANGE:
                    changed = json.dumps(replaced(value, path, new))
                    yield name, "\n".join([*lines[:number], changed, *lines[number + 1 :]])


def job_with_tasks(folder):
    database = create(folder / "job.db", job_id="job", project=folder, now=T0)
    under_way = insertion.begin(database, source="test")
    under_way.add([f"t-{n}" for n in range(1, 9)], ["{}"] * 8, ids_are_derived=False, now=T0)
    under_way.accept(T0)
    database.execute("UPDATE job SET queue_url = 'sqs://queue'")
    return database


class Ledger:
    """Records whatever unpacks, and reads it in every way."""

    def __init__(self, folder):
        self.database = job_with_tasks(folder)
        self.number = 0

    def take(self, batch):
        self.number += 1
        changed = {"number": self.number, "worker": batch.worker}
        batch = events.Batch(**{name: getattr(batch, name) for name in batch.__slots__} | changed)
        with suppress(ForeignMessageError):  # of a task that the job does not have
            recording.record(self.database, batch, now=T0)

    def read(self):
        status = gather(self.database, T0)
        json.dumps(status.to_json(), allow_nan=False)
        assert status_report(status, T0)
        assert final_report(status, T0)
        list(queries.results(self.database))
        list(queries.list_tasks(self.database))
        assert [one for one in check(self.database) if not one.is_ok] == []


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.database.close()


def unpacked(name, body):
    """Return the message, or None if it is refused in one of the ways that a worker expects."""
    try:
        return MODULES[name][0].unpack(body)
    except (ForeignMessageError, MisdirectedMessageError):
        return None


def test_a_message_with_one_wrong_value_is_refused_or_harmless(ledger):
    refused = taken = 0
    for name, body in variants():
        found = unpacked(name, body)
        refused += found is None
        if name == "events" and found is not None:
            ledger.take(found)
            taken += 1
    ledger.read()
    assert refused > 1000
    assert taken > 10


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('"host"', "7", "the host of the worker is 7, not a text"),
        ('"number":3', '"number":"3"', "number is '3', not an integer of 0 to"),
        ('"number":3', '"number":true', "number is True, not an integer"),
        ('"told_at":1700000002.75', '"told_at":NaN', "NaN is not a JSON number"),
        ('"told_at":1700000002.75', '"told_at":1e300', r"told_at is 1e\+300, not a number of 0 to"),
        ("[1,1,0,", "[1,1,99,", "an outcome is 99"),
        ("[1,1,0,", "[1,1000,0,", "the number of an attempt is 1000, not an integer of 1 to 999"),
        ("[1,1,0,", "[-1,1,0,", "the number of a task is -1"),
        ("[1,1,0,", "[9223372036854775807,1,0,", "the number of a task is"),
        (",0.5,true,", ",Infinity,true,", "Infinity is not a JSON number"),
        (",0.5,true,", ",-0.5,true,", "the duration of an attempt is -0.5"),
        (",0.5,true,", ",0.5,1,", "whether an attempt has a result is 1"),
        ('{"square": 16}', '{"square": ', "a result is not JSON"),
        ('{"square": 16}', f'{{"square": {HUGE}}}', "a result is not JSON"),
        ('{"square": 16}', "[" * 100_000, "nested too deeply"),
        ('"host"', r'"\ud800"', "the host of the worker is .*, not valid Unicode"),
        ('"killed by SIGSEGV"', "7", "the error of an attempt is 7, not a text"),
        ('"worker":', '"walker":', "it has no 'worker'"),
        ('"ended":3', '"ended":4', "its header has 4 attempts, and 3 follow"),
        ('"ended":3', '"ended":3,"codes":["task:f"]', "codes is .*, not an object"),
        ('"ended":3', '"ended":3,"codes":{"task:f":7}', "the hash of a function's code is 7, not a text"),
        ('"ended":3', '"ended":3,"codes":{"":"a"}', "the name of a function is '', not a text that is not empty"),
        (
            '"ended":3',
            f'"ended":3,"codes":{{"{"f" * 1001}":"a"}}',
            "the name of a function is .*, not a text of at most 1000",
        ),
        ('"ended":3', f'"ended":3,"codes":{{"f":"{"a" * 201}"}}', "code is .*, not a text of at most 200 characters"),
        ('"ended":3', '"ended":3,"packages":[]', "packages is .*, not an object"),
        ('"ended":3', '"ended":3,"packages":{"numpy":2}', "the version of a package is 2, not a text"),
        ('"ended":3', f'"ended":3,"packages":{{"numpy":"{"1" * 101}"}}', "not a text of at most 100 characters"),
        ('"ended":3', '"ended":3,"packages":{"":"1"}', "the name of a package is '', not a text that is not empty"),
        (
            '"ended":3',
            f'"ended":3,"packages":{json.dumps(dict.fromkeys(map(str, range(1001)), "1"))}',
            "the number of packages is 1001",
        ),
        ('"ended":3', r'"ended":3,"codes":{"f":"\ud800"}', "code is .*, not valid Unicode"),
        (
            '"ended":3',
            f'"ended":3,"codes":{json.dumps(dict.fromkeys(map(str, range(1001)), "a"))}',
            "the number of codes is 1001",
        ),
    ],
)
def test_the_reason_names_the_field_of_an_event(before, after, reason):
    assert before in EVENTS
    with pytest.raises(ForeignMessageError, match=reason):
        events.unpack(EVENTS.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('"t-7"', "7", "the id of a task is 7, not a text"),
        ('"t-7"', '""', "the id of a task is ''"),
        ("[7,", "[-7,", "the number of a task is -7"),
        ('"t-8",3', '"t-8",1000', "the number of an attempt is 1000"),
        ("[[1,2]", "[[99,2]", "an outcome is 99"),
        ("[[1,2]", '[[1,"2"]', "the count of an outcome is '2'"),
        ('{"n": 1}', "[1]", r"the data of a task is \[1\], not an object"),
        ('{"n": 1}', '{"n": 1', "the data of a task is not JSON"),
        ('"not_before":1.5', '"not_before":"now"', "not_before is 'now'"),
        ('\n{"n": 1}', "", "its header has 2 tasks, and 1 lines follow"),
        ('"tasks":[[7', '"tasks":{},"t":[[7', r"tasks is {}, not a list"),
    ],
)
def test_the_reason_names_the_field_of_a_task(before, after, reason):
    assert before in TASKS
    with pytest.raises(ForeignMessageError, match=reason):
        tasks.unpack(TASKS.replace(before, after))


@pytest.mark.parametrize("name", MODULES)
def test_a_message_that_was_cut_anywhere_is_refused(name):
    module, text = MODULES[name]
    for length in range(len(text)):
        with pytest.raises(ForeignMessageError):
            module.unpack(text[:length])


def test_a_success_without_a_result_is_refused():
    text = EVENTS.replace("0.5,true,null", "0.5,false,null").replace('\n{"square": 16}', "")
    with pytest.raises(ForeignMessageError, match="a successful attempt has no result"):
        events.unpack(text)


def test_an_integer_that_python_refuses_to_print_is_named_by_its_type():
    assert "type int" in str(fields.wrong("x", 10**5000, "small"))


def test_what_the_lists_of_outcomes_and_numbers_say_is_what_the_ledger_can_hold():
    assert {fields.outcome(int(one)) for one in Outcome} == set(map(int, Outcome))
    assert (fields.LAST_SEQ + 1) * 1000 < 2**63


PIECES = [
    '"',
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\n",
    "\\",
    "null",
    "true",
    "-1",
    "1e999",
    "NaN",
    HUGE,
    "\ud800",
    "\x00",
    "[" * 2000,
    '"x"',
    "9" * 20,
]


def mutated(text, rnd):
    """Damage a text at some places."""
    for _ in range(rnd.randint(1, 4)):
        at = rnd.randrange(len(text) + 1)
        match rnd.randrange(5):
            case 0:
                text = text[:at] + text[at + rnd.randint(1, 20) :]
            case 1:
                text = text[:at] + rnd.choice(PIECES) + text[at:]
            case 2:
                text = (
                    text[:at]
                    + chr(rnd.choice([0, 27, 127, 155, 0x202E, 0xFFFF, rnd.randrange(32, 127)]))
                    + text[at + 1 :]
                )
            case 3:
                start = rnd.randrange(len(text) + 1)
                text = text[:at] + text[start : start + rnd.randint(1, 60)] + text[at:]
            case 4:
                lines = text.split("\n")
                rnd.shuffle(lines)
                text = "\n".join(lines)
    return text


@pytest.mark.parametrize("seed", range(4))
def test_damaged_messages_are_refused_or_harmless(ledger, seed):
    rnd = random.Random(seed)
    taken = 0
    for _ in range(1500):
        for name, (_, text) in MODULES.items():
            found = unpacked(name, mutated(text, rnd))
            if name == "events" and found is not None and found.job_id == "job":
                ledger.take(found)
                taken += 1
    ledger.read()
    assert taken > 20


def test_code_of_functions_that_a_job_does_not_have_is_not_stored(tmp_path):
    with closing(create(tmp_path / "job.db", job_id="job", project=tmp_path, now=1.0)) as database:
        calls.register_function(database, "task:f")
        calls.register_function(database, "task:declared", "2")
        codes = dict.fromkeys(["task:f", "task:declared", "task:g", "'; DROP TABLE worker_code; --"], "abc")
        for number, sent in enumerate([codes, {"task:f": "version 3"}]):
            header = f'"worker":["x","host",1,1,1.0,null],"number":{number},"told_at":2.0,"leased":[],"returned":[],"end_reason":""'
            text = f'{{"taskfleet":1,"job":"job","ledger":"","codes":{json.dumps(sent)},{header}}}'
            recording.record(database, events.unpack(text), now=3.0)
        assert database.rows("SELECT name, code_hash FROM worker_code JOIN function USING (function_id)") == [
            ("task:f", "abc")
        ]
