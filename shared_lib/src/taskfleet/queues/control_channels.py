"""Choose the way of a job's control document: beside a queue in PostgreSQL, otherwise in BUCKET, or at the service if it is not set."""

from typing import Any

from taskfleet.clouds.retrying import Outages
from taskfleet.extras import require
from taskfleet.queues.addresses import is_postgresql, open_transport, with_folder, with_suffix
from taskfleet.queues.control import ControlChannel
from taskfleet.settings import Configuration


def open_channel(
    configuration: Configuration,
    outages: Outages | None = None,
    *,
    queue_url: str | None = None,
    patience_seconds: float = 60.0,
) -> ControlChannel:
    """Return the channel of a job at a service.

    Args:
        configuration: The settings.
        outages: Observes the calls.
        queue_url: The address; None for QUEUE_URL.
        patience_seconds: How long a call is repeated while the service is unavailable.

    Raises:
        WrongSettingError: BUCKET is not a URL of a bucket.
        MissingPackageError: A package for the service or the bucket is not installed.
    """
    settings, bucket = configuration.settings, configuration.pool.bucket
    queue_url, job_id = with_folder(queue_url or settings.queue_url, configuration), settings.job_id
    options: dict[str, Any] = {"outages": outages, "patience_seconds": patience_seconds}
    if is_postgresql(queue_url):
        from taskfleet.queues.postgresql import PostgresqlTransport
        from taskfleet.queues.postgresql_control import PostgresqlControl

        transport = open_transport(queue_url, job_id, **options)
        assert isinstance(transport, PostgresqlTransport)
        return PostgresqlControl(transport)
    if bucket:
        from taskfleet.queues.bucket_control import BucketControl

        require("google.pubsub_v1" if bucket.startswith("gs:") else "botocore", f"BUCKET={bucket}")
        return BucketControl(bucket, job_id)
    if queue_url.startswith("pubsub:"):
        from taskfleet.queues.pubsub import PubSubTransport
        from taskfleet.queues.pubsub_control import PubSubControl

        transport = open_transport(queue_url, job_id, **options)
        assert isinstance(transport, PubSubTransport)
        return PubSubControl(transport)
    from taskfleet.queues.sqs_control import BOARD, SqsControl

    tags = {"taskfleet-job": job_id, "taskfleet-project": configuration.project.name, "taskfleet-queue": "control"}
    return SqsControl(open_transport(with_suffix(queue_url, BOARD), job_id, **options), tags)
