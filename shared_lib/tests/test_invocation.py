"""Suggested commands are printed as the user would type them."""

import pytest
from taskfleet.invocation import poe, prefix, remember_flags


@pytest.mark.parametrize(
    ("environ", "typed"),
    [
        ({}, "uv run poe"),  # python -m taskfleet, python run.py
        ({"UV_RUN_RECURSION_DEPTH": "1"}, "uv run poe"),  # uv run python run.py
        ({"POE_ACTIVE": "uv", "UV_RUN_RECURSION_DEPTH": "1"}, "poe"),
        ({"POE_ACTIVE": "simple"}, "poe"),  # a project whose poe does not start uv
        ({"POE_ACTIVE": "uv", "UV_RUN_RECURSION_DEPTH": "2"}, "uv run poe"),
    ],
)
def test_the_prefix_is_what_the_user_typed(environ, typed):
    assert prefix(environ) == typed


def test_flags_of_the_running_command_come_behind_the_name(monkeypatch):
    monkeypatch.delenv("POE_ACTIVE", raising=False)
    assert poe("retry --killed") == "uv run poe retry --killed"
    remember_flags(lambda name: ["-e", "my file.env"] if name == "retry" else [])
    assert poe("retry --killed") == "uv run poe retry -e 'my file.env' --killed"
    assert poe("retry -e other.env") == "uv run poe retry -e other.env"
    assert poe("status") == "uv run poe status"
