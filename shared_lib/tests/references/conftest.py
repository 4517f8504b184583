"""Stores."""

import pytest
from taskfleet.references import Store, decode, encode


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    """A store that all examples of a test may use."""
    return Store(tmp_path_factory.mktemp("store") / "results")


@pytest.fixture
def store(tmp_path):
    """A store that does not exist yet."""
    return Store(tmp_path / "results")


@pytest.fixture
def passed(store):
    """Passes a value from a task to another."""

    def passed(value, **options):
        pickle = options.get("pickle", False)
        return decode(encode(value, store, **options), store, pickle=pickle)

    return passed
