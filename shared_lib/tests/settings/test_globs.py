"""Regular expressions in place of patterns with ``*`` and ``?`` are noticed, with the pattern to write instead."""

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.settings.globs import globs_of, is_regular
from taskfleet.settings.parsers import globs, phrases, words

NAMES = ["n2-standard-8", "n2-highmem-64", "n2d-standard-4", "c7i.large", "c7i.2xlarge", "m7i-flex.large", "us-east-1a"]


@pytest.mark.parametrize(
    ("regular", "glob"),
    [
        ("^n2-.*", "n2-*"),
        ("n2-.*", "n2-*"),
        (".*", "*"),
        (".+", "?*"),
        ("^n2-.*$", "n2-*"),
        (r"n2-standard-\d", "n2-standard-[0-9]"),
        (r"n2-standard-\d+", "n2-standard-[0-9]*"),
        (r"n2-standard-[0-9]+$", "n2-standard-[0-9]*"),
        (r"c7i\..*", "c7i.*"),
        (r"c[0-9]\w*\.(large|xlarge)", "c[0-9]*.large c[0-9]*.xlarge"),
        ("(c5|m5).large", "c5?large m5?large"),
        ("c5|m5", "c5 m5"),
        ("(?:n2|n2d)-.*", "n2-* n2d-*"),
        (r"m7i\-flex\..+", "m7i-flex.?*"),
    ],
)
def test_a_regular_expression_has_an_equivalent_pattern(regular, glob):
    assert is_regular(regular)
    assert " ".join(globs_of(regular)) == glob
    with pytest.raises(ValueError, match=re.escape(f"patterns with * and ?, not regular expressions: write {glob}")):
        globs(words)(regular)


@pytest.mark.parametrize(
    "pattern", ["c7i.*", "c7i.* m7i.*", "*.large", "*.*", "n2-*", "us-east-1?", "c[5-7]i.*", "*", "c7i.large"]
)
def test_a_pattern_is_no_regular_expression(pattern):
    assert globs(words)(pattern) == tuple(pattern.split())


def test_processors_with_spaces_are_patterns():
    assert globs(phrases)("AMD*, *Sapphire Rapids") == ("AMD*", "*Sapphire Rapids")


def test_a_suggestion_can_be_written_as_it_is():
    with pytest.raises(ValueError, match=re.escape("write c7* m7*")):
        globs(words)("^c7.* ^m7.*")
    with pytest.raises(ValueError, match=re.escape("write AMD*, Intel*")):
        globs(phrases, separator=", ")("AMD.*|Intel.*")


@pytest.mark.parametrize("pattern", ["(a(b|c))+", "a{2,3}", "(?=x)y", "(a|b)?c", "[a"])
def test_what_is_too_complex_has_no_equivalent(pattern):
    assert is_regular(pattern) or pattern == "[a"
    found = globs_of(pattern)
    assert not any(map(is_regular, found))


def test_an_escaped_point_before_a_wildcard_is_a_point():
    assert globs_of(r"\..*") == (".*",)


PARTS = ["n2", "-", "standard", r"\d", r"\d+", ".*", ".+", "8", r"\.", "large", "(n2|n2d)", "[0-9]", "c7i"]


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=6))
def test_the_equivalent_matches_what_the_regular_expression_does(parts):
    regular = "".join(parts)
    found = globs_of(regular)
    assert (not found) == (parts.count("(n2|n2d)") > 4)  # which would be more than twenty patterns
    for name in NAMES if found else ():
        if re.fullmatch(regular, name):
            assert any(fnmatchcase(name, one) for one in found), (regular, found, name)


@given(st.text(max_size=40))
def test_any_text_is_split_or_refused_with_that_reason(text):
    if any(map(is_regular, words(text))):
        with pytest.raises(ValueError, match="not regular expressions"):
            globs(words)(text)
    else:
        assert globs(words)(text) == words(text)
