"""What others say is printed so that no terminal obeys it, and so that a reader sees it."""

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.text import LONGEST_LINE, clock, columns, harmless, harmless_json, one_line

ATTACK = "\x1b]0;title\x07\x1b[2J\x1b]52;c;ZXZpbA==\x07"
TEXTS = st.text(alphabet=st.characters(), max_size=60) | st.text(
    alphabet="a\x1b[0;31mK\r\n\t\x07\x9b\u202e\ud800", max_size=30
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 漢字 🙂", "plain ä 漢字 🙂"),
        ("a\tb\nc", "a\tb\nc"),
        (ATTACK, r"\x1b]0;title\x07\x1b[2J\x1b]52;c;ZXZpbA==\x07"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b[2Kx\rJOB COMPLETE", r"\x1b[2Kx\rJOB COMPLETE"),
        ("a\r\nb\x7f", "a\nb\\x7f"),
        ("\x9b2J", r"\x9b2J"),
        ("abc\u202egnp.exe", r"abc\u202egnp.exe"),
        ("\u2066x\u2069\u200f\u2028", r"\u2066x\u2069\u200f\u2028"),
        ("\ud800\udfff", r"\ud800\udfff"),
        ("\x00", r"\x00"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, shown):
    assert harmless(text) == shown


def is_harmless(text, also=""):
    return all(
        one in also
        or not (unicodedata.category(one) in ("Cc", "Cs") or unicodedata.bidirectional(one)[:2] in ("LR", "RL", "PD"))
        for one in text
    )


@given(TEXTS)
def test_no_text_has_control_characters_afterwards_and_it_changes_nothing_twice(text):
    shown = harmless(text, longest_line=50)
    assert is_harmless(shown, also="\n\t")
    assert harmless(shown, longest_line=50) == shown
    shown.encode()
    assert is_harmless(one_line(text))
    assert is_harmless(columns([(text, text)], ("a", "b")), also="\n")
    assert columns([(text, text)], ("a", "b")).count("\n") == 1


@given(st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS)))
def test_json_is_harmless_and_means_the_same(value):
    text = harmless_json(value)
    assert is_harmless(text)
    assert json.loads(text) == value


def test_long_lines_are_cut_and_say_so():
    text = "x" * (LONGEST_LINE + 5000) + "\n" + "y" * LONGEST_LINE
    first, second = harmless(text).split("\n")
    assert re.fullmatch(r"x{2000}… \(5,000 more characters\)", first)
    assert second == "y" * LONGEST_LINE


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e300, -1e300])
def test_a_time_that_is_none_is_shown_as_a_number(seconds):
    assert clock(seconds) == f"{seconds:g}"
