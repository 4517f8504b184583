"""AWS SQS, played by moto."""

import os

from taskfleet.queues.sqs import SqsTransport
from taskfleet.testing.sqs import Sqs


class SqsService(Sqs):
    """Opens its queues, too."""

    def transport(self, name, **options):
        os.environ.update(self.environment())
        return SqsTransport(f"sqs://{name}", **options)
