"""What Google's storage refuses, as a bundle on its way there is told."""

from functools import partial

import pytest
from taskfleet.errors import PermissionDeniedError, ProviderError, UnreachableError
from taskfleet.pool import bundle as bundles

from shared_lib.tests.services.storage import USER, Storage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service():
    with Storage() as one:
        yield one
        assert one.unlisted() == set()


@pytest.fixture
def storage(service, monkeypatch):
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    yield service
    service.forbid()
    service.clear_faults()


@pytest.fixture
def bundle(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").touch()
    (project / "uv.lock").touch()
    return bundles.pack(project, tmp_path / "bundles")


@pytest.mark.parametrize("denied", ["storage.objects.create", "storage.objects.list", "storage.objects.delete"])
def test_what_google_does_not_permit_is_named(storage, bundle, denied):
    how = {"job_id": "one", "provider": "gcp"}
    if denied == "storage.objects.delete":
        bundles.upload(bundle, "gs://code", **how)
    storage.forbid(denied)
    act = partial(bundles.upload, bundle) if denied == "storage.objects.create" else bundles.remove
    sentence = rf"^gs://code: this account lacks the permission {denied} on gs://code\. .* Storage Object User\. "
    with pytest.raises(PermissionDeniedError, match=sentence) as caught:
        act("gs://code", **how)
    found = caught.value
    assert (found.permission, found.resource, found.principal) == (denied, "gs://code", USER)
    storage.forbid()
    assert bundles.remove("gs://code", **how) == 0


def test_a_bundle_that_may_not_be_looked_for_is_put_all_the_same(storage, bundle):
    storage.forbid("storage.objects.get")
    assert bundles.upload(bundle, "gs://code", job_id="one", provider="gcp").hash == bundle.hash
    assert bundles.remove("gs://code", job_id="one", provider="gcp") == 0


@pytest.mark.parametrize(("code", "kind"), [(503, UnreachableError), (412, ProviderError)])
def test_what_else_google_says_has_its_class(storage, bundle, code, kind):
    storage.fault("objects.insert", code=code, message="It is so.")
    with pytest.raises(kind, match=r"^gs://code.*It is so") as caught:
        bundles.upload(bundle, "gs://code", job_id="one", provider="gcp")
    assert type(caught.value) is kind
