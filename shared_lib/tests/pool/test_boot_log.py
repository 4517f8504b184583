"""The summary of a machine's boot from its console output. ``tests/machines`` has tests with booting machines."""

import random

import pytest
from taskfleet.pool.boot_log import parse_stages, report, summary
from taskfleet.text import harmless

CONSOLE = """\
[    0.000000] Linux version 6.8.0
taskfleet-boot: 0.0 s  stage=timer  begun
taskfleet-boot: 0.1 s  stage=timer  ok  set to 3600 s
Cloud-init v. 24.1 running 'modules:final'
taskfleet-boot: 0.2 s  stage=uv  begun
[   12.345678] cloud-init[871]: taskfleet-boot: 2.7 s  stage=uv  ok
taskfleet-boot: 2.7 s  stage=packages  begun
taskfleet-boot: 32.7 s  stage=packages  still: Downloading pyarrow
"""
FAILED = """\
taskfleet-boot: 40.0 s  stage=packages  failed  code=2\r
taskfleet-said: error: no such package\r
taskfleet-said:   caused by: a typo
taskfleet-boot: 40.1 s  stage=end  failed  packages failed, powering off in 60 s
"""
AGAIN = """\
taskfleet-boot: 0.0 s  stage=timer  begun
taskfleet-boot: 0.1 s  stage=timer  ok  set to 3500 s
taskfleet-boot: 5.0 s  stage=worker  begun  attempt 1
taskfleet-said: Worker for job one
taskfleet-boot: 9.0 s  stage=worker  ended with 1
taskfleet-boot: 19.0 s  stage=worker  begun  attempt 2
taskfleet-said: Worker for job one, once more
"""


def test_stages_are_read_among_what_else_a_console_shows():
    found = parse_stages(CONSOLE)
    assert [(one.name, one.began_seconds, one.seconds, one.ok) for one in found.stages] == [
        ("timer", 0.0, 0.1, True),
        ("uv", 0.2, 2.5, True),
        ("packages", 2.7, None, None),
    ]
    assert found.stages[-1].text == "Downloading pyarrow"
    assert found.failed is None
    assert found.last_lines == ()


def test_what_failed_is_found_with_its_last_lines():
    found = parse_stages(CONSOLE + FAILED)
    assert (found.failed.name, found.failed.seconds, found.failed.text) == ("packages", 37.3, "code=2")
    assert found.last_lines == ("error: no such package", "  caused by: a typo")
    assert parse_stages("nothing\nof ours") == parse_stages("")


def test_of_several_boots_and_several_tries_the_last_counts():
    found = parse_stages(CONSOLE + FAILED + AGAIN)
    assert [(one.name, one.began_seconds, one.ok) for one in found.stages] == [
        ("timer", 0.0, True),
        ("worker", 19.0, None),
    ]
    assert found.last_lines == ("Worker for job one, once more",)


WORKS = """\
taskfleet-boot: 0.0 s  stage=timer  begun
taskfleet-boot: 0.1 s  stage=timer  ok  set to 3600 s
taskfleet-boot: 0.1 s  stage=project  begun
taskfleet-boot: 1.4 s  stage=project  ok
taskfleet-boot: 1.4 s  stage=machine  it is i-1
taskfleet-boot: 5.0 s  stage=worker  begun  attempt 1
taskfleet-said: Worker for job one
"""
REFUSES = """\
taskfleet-said: error: /opt/taskfleet/project does not hold the code of bundle 012345678901: task.py was changed.
taskfleet-boot: 5.9 s  stage=worker  failed  code=2, it refuses to start
taskfleet-boot: 5.9 s  stage=after_worker  begun
taskfleet-boot: 6.0 s  stage=after_worker  ok
taskfleet-boot: 6.0 s  stage=end  failed  the worker does not run, powering off in 60 s
[  OK  ] Stopped target Host and Network Name Lookups.
"""
BEFORE = "Stages before: timer 0.1 s, uv 2.5 s."
#: Consoles and their summaries.
SUMMARIES = {
    "nothing of ours": ("[    0.000000] Linux version 6.8.0\nlogin:", ""),
    "nothing": ("", ""),
    "at work": (
        WORKS,
        "The start-up script is in stage worker, which began 5 s after its start (attempt 1). "
        "Stages before: timer 0.1 s, project 1.3 s.",
    ),
    "slow": (
        CONSOLE,
        f"The start-up script is in stage packages, which began 2.7 s after its start (Downloading pyarrow). {BEFORE}",
    ),
    "failed": (
        CONSOLE + FAILED,
        f"The start-up script failed in stage packages after 37.3 s (code=2): error: no such package. {BEFORE}",
    ),
    "crashed": (
        CONSOLE + FAILED + AGAIN,
        "The start-up script is in stage worker, which began 19 s after its start (attempt 2). Stages before: timer 0.1 s.",
    ),
    "refused": (
        WORKS + REFUSES,
        "The start-up script failed in stage worker after 0.9 s (code=2, it refuses to start): error: /opt/taskfleet/project does not "
        "hold the code of bundle 012345678901: task.py was changed. Stages before: timer 0.1 s, project 1.3 s.",
    ),
    "ended": (
        WORKS
        + "taskfleet-boot: 315.0 s  stage=worker  ok  code=0\ntaskfleet-boot: 315.1 s  stage=end  ok  powering off\n",
        "The start-up script ended after 315.1 s (powering off). Stages before: timer 0.1 s, project 1.3 s, worker 310 s.",
    ),
    "too old": (
        WORKS + "taskfleet-boot: 3600.1 s  stage=lifetime  failed  it is over, powering off\n",
        "The start-up script failed in stage lifetime 3600.1 s after its start (it is over, powering off). "
        "Stages before: timer 0.1 s, project 1.3 s.",
    ),
    "between stages": (
        CONSOLE.partition("taskfleet-boot: 2.7 s  stage=packages")[0],
        "The start-up script finished stage uv in 2.5 s, and has not begun the next one. Stages before: timer 0.1 s.",
    ),
    "ended by itself": (
        CONSOLE
        + "taskfleet-boot: 33.0 s  stage=end  failed  the start-up script itself ended, powering off in 60 s\n"
        + "taskfleet-said: user-data: line 3: unbound variable\n",
        "The start-up script failed in stage end 33 s after its start (the start-up script itself ended, powering off in 60 s): "
        "user-data: line 3: unbound variable. Stages before: timer 0.1 s, uv 2.5 s.",
    ),
    "begins after a while": (
        "s  stage=project  ok\ntaskfleet-boot: 4.0 s  stage=packages  ok\n",
        "The start-up script finished stage packages, and has not begun the next one.",
    ),
}


@pytest.mark.parametrize(("console", "said"), SUMMARIES.values(), ids=SUMMARIES)
def test_how_far_a_boot_came_is_summarized(console, said):
    assert summary(console) == said


def test_of_what_a_stage_printed_the_line_with_the_error_is_shown():
    def said(*lines):
        console = CONSOLE + "taskfleet-boot: 40.0 s  stage=packages  failed  code=1\n"
        return summary(console + "".join(f"taskfleet-said: {line}\n" for line in lines))

    assert "(code=1). Stages before" in said()
    assert "(code=1): the reason. Stages before" in said("first", "the reason.", "")
    assert "(code=1): ValueError: no such thing. Stages before" in said(
        "Traceback:", "ValueError: no such thing", "hint: another"
    )
    assert "(code=1): error: two. Stages before" in said("error: one", "error: two", "  from elsewhere")
    assert "(code=1): botocore.exceptions.ClientError: no. Stages before" in said(
        "botocore.exceptions.ClientError: no", "at last"
    )
    assert "(code=1): at last. Stages before" in said("no error at all", "at last")


def test_the_last_lines_of_a_console_come_after_the_summary():
    assert report(WORKS + REFUSES, 2) == (
        f"{summary(WORKS + REFUSES)} Its last console lines:\n"
        "    taskfleet-boot: 6.0 s  stage=end  failed  the worker does not run, powering off in 60 s\n"
        "    [  OK  ] Stopped target Host and Network Name Lookups."
    )
    assert report("one\ntwo\nthree\n\n", 2) == "Its last console lines:\n    two\n    three"
    assert report(" \n", 2) == ""


def noisy(rnd):
    """Return what a serial port may show: sound lines, cut, shuffled, and among noise."""
    lines = (CONSOLE + FAILED + AGAIN).splitlines(keepends=True)
    rnd.shuffle(lines)
    pieces = [
        *lines[: rnd.randrange(len(lines))],
        "taskfleet-boot: " + "9" * 400 + ".0 s  stage=uv  ok\n",
        "\x1b[0;32m OK \x1b[0m",
    ]
    pieces += [
        "taskfleet-boot: \u0663.\u0664 s  stage=\x1b]0;x\x07  begun\n",
        "taskfleet-said: " + "a." * 5000 + "\n",
        "\x00\ufffd\r\x85\u2028",
    ]
    text = "".join(rnd.choices(pieces, k=rnd.randint(1, 30)))
    for _ in range(rnd.randrange(4)):
        at = rnd.randrange(len(text) + 1)
        text = text[:at] + chr(rnd.randrange(0x300)) + text[at + rnd.randrange(20) :]
    return text


@pytest.mark.parametrize("seed", range(3))
def test_any_console_has_a_summary_on_one_line(seed):
    rnd = random.Random(seed)
    found = 0
    for _ in range(400):
        text = noisy(rnd)
        one = summary(text)
        found += bool(one)
        assert len(one.splitlines()) <= 1
        assert len(one) < 3 * len(text) + 1000
        assert set(harmless(report(text, 10))).isdisjoint(map(chr, [*range(9), *range(11, 32), *range(127, 160)]))
    assert found > 100
