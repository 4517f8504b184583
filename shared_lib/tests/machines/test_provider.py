"""Providers are objects in a registry, and nothing outside their packages knows them by name."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import taskfleet
from taskfleet.machines.provider import PROVIDERS, Provider, load_provider, watcher_here
from taskfleet.settings.declaring import PROVIDER_GROUPS

SOURCE = Path(taskfleet.__file__).parent
#: Modules that may contain names of providers: the registry, the sections of settings, and the program that machines boot with.
KNOWS_NAMES = (
    "machines/provider.py",
    "settings/declaring.py",
    "settings/provider_fields.py",
    "settings/rms_config.py",  # the sections of another program's configuration
    "settings/rms_names.py",
    "pool/on_machine.py",
    "desipipe/resources.py",  # the providers of another program
)


def test_every_provider_is_in_the_registry_and_has_its_sections_of_settings():
    assert set(PROVIDERS) == set(PROVIDER_GROUPS)
    assert {name for name in PROVIDERS if (SOURCE / "machines" / name).is_dir()} == set(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_has_every_capability_and_every_method(name):
    provider = load_provider(name)
    assert provider.name == name
    for capability, kind in Provider.__annotations__.items():
        assert hasattr(provider, capability), capability
        assert "ClassVar" in str(kind)
    for method in vars(Provider):
        if not method.startswith("_") and callable(getattr(Provider, method)):
            assert callable(getattr(provider, method)), method


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_is_loaded_without_its_sdk(name):
    code = (
        f"import sys; from taskfleet.machines.provider import load_provider; load_provider({name!r}); "
        "print([n for n in sys.modules if n.partition('.')[0] in ('boto3', 'botocore', 'google', 'grpc', 'pandas')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_termination_notices_are_watched_for_on_machines_of_those_that_give_some():
    assert watcher_here({}) is None
    assert watcher_here({"TASKFLEET_PROVIDER": "local"}) is None
    assert watcher_here({"TASKFLEET_PROVIDER": "of a later version"}) is None
    found = {name: watcher_here({"TASKFLEET_PROVIDER": name}) for name in PROVIDERS}
    assert {name for name, watcher in found.items() if watcher is not None} == {"aws", "gcp", "slurm"}


def names_in(node):
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and each.value in PROVIDERS}


def test_no_provider_is_known_by_its_name_outside_its_package():
    """Yield comparisons, keys and cases with the name of a provider: differences belong in the provider's package."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        own = place.split("/")[1] if place.startswith("machines/") and place.count("/") > 1 else ""
        if place in KNOWS_NAMES or place.startswith("tables/"):  # where "local" is a kind of URL
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                names = names_in(node)
            elif isinstance(node, ast.Dict):
                names = set().union(*(names_in(key) for key in node.keys if key is not None))
            elif isinstance(node, ast.MatchValue):
                names = names_in(node)
            else:
                continue
            found += [f"{place}:{node.lineno if hasattr(node, 'lineno') else 0} {name}" for name in names - {own}]
    assert found == []
