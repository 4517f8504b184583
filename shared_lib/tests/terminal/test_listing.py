"""Filters, orders and limits of lists."""

import argparse
from operator import itemgetter

import pytest
from taskfleet.errors import UsageError
from taskfleet.terminal.arguments import _with_values
from taskfleet.terminal.listing import add_listing, arrange

FIELDS = {name: itemgetter(name) for name in ("name", "price", "price_per_cpu", "state", "zones")}
ROWS = [
    {"name": "b", "price": 2.0, "price_per_cpu": 1.0, "state": "Running", "zones": ["x-1", "x-2"], "it": object()},
    {"name": "a", "price": 1.0, "price_per_cpu": 0.5, "state": "ended", "zones": ["y-1"], "it": object()},
    {"name": "c", "price": None, "price_per_cpu": None, "state": "running", "zones": [], "it": object()},
]


def names(*words):
    parser = argparse.ArgumentParser()
    add_listing(parser, FIELDS, order="none")
    words = _with_values(words)
    return "".join(row["name"] for row in arrange(ROWS, parser.parse_args(words), FIELDS, {"cost": "price"}))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "bac"),
        ("--filter RUNNING", "bc"),
        ("--filter y-1", "a"),
        ("--filter 2.0", "b"),
        ("--filter absent", ""),
        ("--sort-by name", "abc"),
        ("--sort-by -name", "cba"),
        ("--sort name", "abc"),
        ("--sort-by price", "abc"),  # what is unknown is last, in both orders
        ("--sort-by -price", "bac"),
        ("--sort-by cost", "abc"),
        ("--sort-by price-per", "abc"),
        ("--sort-by s,-name", "bac"),
        ("--sort-by -s,name", "cab"),
    ],
)
def test_rows_are_filtered_and_sorted(words, expected):
    assert names(*words.split(" ") if words else ()) == expected


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nonsense", "--sort-by 'nonsense' is not a field. Fields: name, price, price_per_cpu, state, zones."),
        ("pri", "--sort-by 'pri' could be price or price_per_cpu."),
        ("name,", "--sort-by '' is not a field."),
    ],
)
def test_an_unknown_field_is_a_mistake_of_the_user(word, said):
    with pytest.raises(UsageError) as caught:
        names("--sort-by", word)
    assert str(caught.value).startswith(said)
