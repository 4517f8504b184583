"""Google Cloud Pub/Sub, played by the double."""

import os
import time

from taskfleet.queues.pubsub import PubSubTransport
from taskfleet.testing.pubsub import PubSub


class PubSubService(PubSub):
    """Opens its queues, too; their clock goes as its own does."""

    def __init__(self):
        super().__init__()
        self.ahead_seconds = 0.0

    def advance(self, seconds):
        """Put both clocks forward."""
        super().advance(seconds)
        self.ahead_seconds += seconds

    def queue_url(self, name):
        """Give the QUEUE_URL of a job of this name."""
        return f"pubsub://{name}"

    def transport(self, name, **options):
        os.environ.update(self.environment())
        return PubSubTransport(f"pubsub://{name}", clock=lambda: time.time() + self.ahead_seconds, **options)
