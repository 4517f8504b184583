"""AWS SQS, played by moto."""

import os

from taskfleet.queues.sqs import SqsTransport
from taskfleet.testing.sqs import Sqs


class SqsService(Sqs):
    """Opens its queues, too."""

    def queue_url(self, name):
        """Give the QUEUE_URL of a job of this name."""
        return f"sqs://{name}"

    def transport(self, name, **options):
        os.environ.update(self.environment())
        return SqsTransport(f"sqs://{name}", **options)
