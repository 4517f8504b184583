"""Help, ``poe settings`` and ``config/pool.env`` show what matters to the provider that is chosen, and no more."""

import re

import pytest
from taskfleet.settings import describe
from taskfleet.settings.declaring import POOL_GROUPS, PROVIDER_GROUPS

FIELDS = {field.name: field for field in describe()}


def shown_flags(help_text):
    """Return the flags that a help text explains."""
    return set(re.findall(r"^  (--[a-z-]+)", help_text, re.MULTILINE))


def flags_of(groups):
    return {field.flag for field in FIELDS.values() if field.group in groups}


@pytest.mark.parametrize("provider", PROVIDER_GROUPS)
@pytest.mark.parametrize("how", ["flag", "file", "environment"])
def test_the_help_has_the_sections_of_the_provider(poe, project, monkeypatch, provider, how):
    words = ["--provider", provider] if how == "flag" else []
    if how == "file":
        (project / "config" / "pool.env").write_text(f"PROVIDER={provider}\n")
    elif how == "environment":
        monkeypatch.setenv("PROVIDER", provider)
    answer = poe("deploy_pool", *words, "--help")
    assert answer.code == 0
    assert shown_flags(answer.out) & flags_of(POOL_GROUPS) == flags_of(PROVIDER_GROUPS[provider])


def test_the_help_after_a_flag_shows_that_provider_too(poe, project):
    assert "--instance-profile" in poe("plan", "--help", "--provider=aws").out
    assert "--instance-profile" not in poe("plan", "--help").out


def test_the_help_reads_the_file_that_is_named(poe, project):
    (project / "gcp.env").write_text("PROVIDER=gcp\n")
    assert "--service-account" in poe("plan", "-e", "gcp.env", "--help").out


@pytest.mark.parametrize("text", ["PROVIDER=nowhere\n", "NONSENSE=1\n"])
def test_the_help_shows_everything_where_the_settings_are_wrong(poe, project, text):
    (project / "config" / "pool.env").write_text(text)
    answer = poe("deploy_pool", "--help")
    assert answer.code == 0
    assert shown_flags(answer.out) & flags_of(POOL_GROUPS) == flags_of(POOL_GROUPS)


def test_flags_of_other_providers_are_taken_although_they_are_not_shown(poe, project):
    assert poe("plan", "--tasks", "3", "--instance-profile", "mine").code == 0


@pytest.mark.parametrize("provider", PROVIDER_GROUPS)
def test_the_settings_that_are_listed_are_those_that_matter(poe, project, provider):
    listed = {line.split()[0] for line in poe("settings", "--provider", provider).out.splitlines()[1:]}
    wanted = {name for name, f in FIELDS.items() if f.group not in POOL_GROUPS or f.group in PROVIDER_GROUPS[provider]}
    assert listed == wanted


def test_a_setting_that_has_no_effect_with_this_provider_is_marked(poe, project):
    (project / "config" / "pool.env").write_text("INSTANCE_PROFILE=mine\n")
    [row] = [line for line in poe("settings").out.splitlines() if line.startswith("INSTANCE_PROFILE")]
    assert "mine" in row
    assert "not used with PROVIDER=local" in row
    [row] = [line for line in poe("settings", "--provider", "aws").out.splitlines() if "INSTANCE_PROFILE" in line]
    assert "not used" not in row


@pytest.mark.parametrize("provider", PROVIDER_GROUPS)
def test_the_file_for_another_provider_keeps_what_is_set(poe, project, provider):
    (project / "config" / "pool.env").write_text("MACHINES=2-7\nREGIONS=us-east-1\nexport GREETING='a b'\n")
    text = poe("settings", "--provider", provider, "--pool-env").out
    (project / "config" / "pool.env").write_text(text)
    values = {
        line.split()[0]: line.split()[1] for line in poe("settings").out.splitlines()[1:] if len(line.split()) > 1
    }
    assert values["PROVIDER"] == provider
    assert values["MACHINES"] == "2-7"
    assert ("REGIONS" in values) == ("location" in PROVIDER_GROUPS[provider])
    [row] = [line for line in poe("settings").out.splitlines() if line.startswith("export GREETING")]
    assert "a b" in row
