"""Termination notices of EC2 spot instances.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html and
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html (IMDSv2 session tokens).
"""

import json
import time
from datetime import datetime

from taskfleet.machines.notice import HAND_BACK_SECONDS, MachineIdentity, MetadataResponse, Notice, Watcher

#: The interval that AWS recommends.
POLL_SECONDS = 5.0
TOKEN_SECONDS = 21_600
REQUEST_SECONDS = 2.0
#: AWS gives notice two minutes ahead.
MAX_NOTICE_SECONDS = 120.0
#: Assumed if a notice has no valid time.
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
        self.poll(self._check, POLL_SECONDS)

    def find_identity(self) -> MachineIdentity:
        """See ``Watcher.find_identity``."""
        return MachineIdentity(
            self._value("instance-id"), self._value("instance-type"), self._value("placement/availability-zone")
        )

    def _value(self, path: str) -> str:
        response = self._get(path)
        if response.status != 200:
            raise OSError(f"HTTP status {response.status}")
        return response.text.strip()

    def _check(self) -> None:
        action = self._get("spot/instance-action")
        if action.status == 200:
            self.notice = Notice(_seconds_left(action.text), "Spot termination notice")
        elif action.status != 404:
            raise OSError(f"HTTP status {action.status}")
        elif not self._was_rebalance_reported and self._get("events/recommendations/rebalance").status == 200:
            self._was_rebalance_reported = True
            self.report(
                "AWS sent a rebalance recommendation: this spot instance is at an elevated risk of interruption. The worker continues "
                "until the termination notice."
            )

    def _get(self, path: str) -> MetadataResponse:
        if time.monotonic() >= self._token_until:
            response = self.request(
                "/latest/api/token",
                {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)},
                method="PUT",
                seconds=REQUEST_SECONDS,
            )
            if response.status != 200:
                raise OSError(f"no session token, HTTP status {response.status}")
            self._token, self._token_until = response.text, time.monotonic() + TOKEN_SECONDS / 2
        response = self.request(
            f"/latest/meta-data/{path}", {"X-aws-ec2-metadata-token": self._token}, seconds=REQUEST_SECONDS
        )
        if response.status == 401:
            self._token_until = 0.0
        return response


def _seconds_left(text: str) -> float:
    """Return the seconds that running tasks have.

    Args:
        text: Such as ``{"action": "terminate", "time": "2026-11-21T08:22:00Z"}``.
    """
    try:
        left = datetime.fromisoformat(json.loads(text)["time"]).timestamp() - time.time()
    except (ValueError, KeyError, TypeError):  # the action alone is a notice
        left = UNKNOWN_NOTICE_SECONDS
    return max(0.0, round(min(left, MAX_NOTICE_SECONDS) - HAND_BACK_SECONDS, 1))
