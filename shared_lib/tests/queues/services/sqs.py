"""AWS SQS, played by moto; or itself, where LIVE_CLOUD=1 and the SDK finds an account and a region (a run costs less than a cent)."""

import os
import time

import boto3
from taskfleet.queues.sqs import SqsTransport

from shared_lib.tests.services.sqs import Sqs


class _Live:
    """The real one: leases run out by waiting."""

    def start(self):
        """See that there are credentials."""
        if boto3.session.Session().get_credentials() is None:
            raise FileNotFoundError("LIVE_CLOUD=1 needs AWS credentials")

    def stop(self):
        """Nothing is left: each test deletes its queues."""

    def environment(self):
        return {}

    def advance(self, seconds):
        time.sleep(seconds + 1)


class SqsService(_Live if os.environ.get("LIVE_CLOUD") else Sqs):
    """Opens its queues, too."""

    def queue_url(self, name):
        """Give the QUEUE_URL of a job of this name."""
        return f"sqs://{name}"

    def transport(self, name, **options):
        return SqsTransport(f"sqs://{name}", **options)
