"""Google Cloud Pub/Sub, played by the double; or itself, where LIVE_CLOUD=1, GOOGLE_CLOUD_PROJECT and credentials are set."""

import os
import time

from taskfleet.queues.pubsub import PubSubTransport

from shared_lib.tests.services.pubsub import PubSub


class _Live:
    """The real one: leases run out by waiting."""

    def start(self):
        """See that there is a project."""
        if not os.environ.get("GOOGLE_CLOUD_PROJECT"):
            raise FileNotFoundError("LIVE_CLOUD=1 needs GOOGLE_CLOUD_PROJECT")

    def stop(self):
        """Nothing is left: each test deletes its queues."""

    def environment(self):
        return {}

    def advance(self, seconds):
        time.sleep(seconds + 1)


class PubSubService(_Live if os.environ.get("LIVE_CLOUD") else PubSub):
    """Opens its queues, too; their clock goes as its own does."""

    def __init__(self):
        super().__init__()
        self.ahead_seconds = 0.0

    def advance(self, seconds):
        """Put both clocks forward, the clients' first: what is due by the service's is not to be found early, and put off."""
        if not os.environ.get("LIVE_CLOUD"):
            self.ahead_seconds += seconds
        super().advance(seconds)

    def queue_url(self, name):
        """Give the QUEUE_URL of a job of this name."""
        return f"pubsub://{name}"

    def transport(self, name, **options):
        return PubSubTransport(f"pubsub://{name}", clock=lambda: time.time() + self.ahead_seconds, **options)
