"""Which folder of results is deleted with a job."""

import pytest
from taskfleet.api.job import Job
from taskfleet.api.queue import results_folder


@pytest.mark.parametrize(
    ("settings", "is_deleted"),
    [
        ({}, True),
        ({"results_path": "elsewhere"}, False),
        ({"results_path": "jobs/sums.results"}, False),
        ({"queue_url": "sqs://sums"}, False),
        ({"queue_url": "postgresql://host/database"}, False),
        ({"queue_url": "pubsub://project/sums", "bucket": "gs://bucket"}, False),
    ],
)
def test_only_the_folder_that_the_library_made_beside_the_ledger_is_deleted(project, monkeypatch, settings, is_deleted):
    """With a service queue and no bucket there is no place for results: above all, that is not the current folder."""
    monkeypatch.chdir(project)
    for folder in ("jobs/sums.results", "elsewhere"):
        (project / folder).mkdir(parents=True, exist_ok=True)
    configuration = Job.open("sums", project=project, **settings).configuration
    found = results_folder(configuration)
    assert found == (project / "jobs" / "sums.results" if is_deleted else None)
