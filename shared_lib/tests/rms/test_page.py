"""``docs/rms.md`` has every command, option, key, variable and attribute of rms-cloud-tasks, and only names of ours that exist."""

import json
import re
from itertools import chain
from pathlib import Path

import pytest
from taskfleet.settings import describe
from taskfleet.terminal.registry import COMMANDS

RMS = json.loads((Path(__file__).with_name("rms_cloud_tasks_0.5.0.json")).read_text())
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "rms.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]
#: The names in the first column, and those of variables in the second one.
THEIRS = set(re.findall(r"`([^`]+)`", "\n".join(row.split(" | ")[0] for row in ROWS)))
THEIRS |= set(re.findall(r"`(RMS_\w+)`", PAGE))
#: Keys of the configuration file; most options of commands are the same words.
KEYS = {key for section in RMS["config"].values() for key in section}


def test_the_page_names_the_version_that_the_list_is_from():
    assert (RMS["distribution"], RMS["version"]) == ("rms-cloud-tasks", "0.5.0")
    assert "rms-cloud-tasks 0.5.0" in PAGE


@pytest.mark.parametrize("name", sorted(RMS["commands"]))
def test_every_command_is_in_the_table_with_its_options(name):
    assert name in THEIRS
    missing = [
        option
        for option in RMS["commands"][name]
        if option not in THEIRS and option[2:].removeprefix("no-").replace("-", "_") not in KEYS & THEIRS
    ]
    assert missing == []


@pytest.mark.parametrize("kind", ["worker_options", "environment", "worker_data"])
def test_every_name_of_workers_is_in_the_table(kind):
    assert set(RMS[kind]) - THEIRS == set()


def test_every_key_is_in_the_table():
    assert set() == KEYS - THEIRS


def test_our_names_exist():
    names = {field.name for field in describe()}
    cells = [row.split(" | ")[1:] for row in ROWS]
    words = set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", re.sub(r"RMS_CLOUD_TASKS_\w+", "", " ".join(chain(*cells)))))
    others = {"AWS_PROFILE", "GOOGLE_APPLICATION_CREDENTIALS"}
    assert words - names - others == set()
    assert set(re.findall(r"poe ([a-z_]+)", PAGE)) <= COMMANDS.keys()


def test_each_variable_is_an_alias_of_the_setting_in_its_row():
    aliases = {alias: field.name for field in describe() for alias in field.aliases}
    rows = [re.findall(r"^\| (?:`--[^|]*) \| `(RMS_\w+)` \| ([A-Z_]+) \|", row) for row in ROWS]
    found = {variable: setting for row in rows for variable, setting in row}
    assert len(found) >= 12
    assert found.items() <= aliases.items()
