"""Termination notices of AWS's spot instances.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html and
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html (the token).
"""

import json
import time
from datetime import datetime

from taskfleet.machines.notice import HAND_BACK_SECONDS, MetadataResponse, Notice, Watcher

#: As AWS recommends.
POLL_SECONDS = 5.0
TOKEN_SECONDS = 21_600
REQUEST_SECONDS = 2.0
#: AWS gives two minutes.
LONGEST_NOTICE_SECONDS = 120.0
#: Where it does not say how many.
UNKNOWN_NOTICE_SECONDS = 30.0


class AwsWatcher(Watcher):
    """See ``Watcher``."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._token = ""
        self._token_until = 0.0
        self._was_rebalance_reported = False

    def start(self) -> None:
        """See ``Watcher.start``."""
        self.keep_looking(self._look, POLL_SECONDS)

    def _look(self) -> None:
        action = self._ask("spot/instance-action")
        if action.status == 200:
            self.notice = Notice(_seconds_left(action.text), "Spot termination notice")
        elif action.status != 404:
            raise OSError(f"it answers {action.status}")
        elif not self._was_rebalance_reported and self._ask("events/recommendations/rebalance").status == 200:
            self._was_rebalance_reported = True
            self.report(
                "AWS recommends to leave this spot instance: it is at a higher risk of being taken away. The worker goes on until it is."
            )

    def _ask(self, path: str) -> MetadataResponse:
        if time.monotonic() >= self._token_until:
            given = self.ask(
                "/latest/api/token",
                {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)},
                method="PUT",
                seconds=REQUEST_SECONDS,
            )
            if given.status != 200:
                raise OSError(f"it gives no token but {given.status}")
            self._token, self._token_until = given.text, time.monotonic() + TOKEN_SECONDS / 2
        answer = self.ask(
            f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token}, seconds=REQUEST_SECONDS
        )
        if answer.status == 401:
            self._token_until = 0.0
        return answer


def _seconds_left(text: str) -> float:
    """Return how long tasks have, of the time that ``{"action": "terminate", "time": "2026-11-21T08:22:00Z"}`` leaves."""
    try:
        left = datetime.fromisoformat(json.loads(text)["time"]).timestamp() - time.time()
    except (ValueError, KeyError, TypeError):  # the action alone is enough to go
        left = UNKNOWN_NOTICE_SECONDS
    return max(0.0, round(min(left, LONGEST_NOTICE_SECONDS) - HAND_BACK_SECONDS, 1))
