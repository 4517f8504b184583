"""The metadata services of EC2 and Compute Engine on one address, for one machine: its name, its role's credentials, notices.

As strict as the real ones: EC2's wants a token (version 2), Google's its header, neither anything that was forwarded.
As a module (``python -m shared_lib.tests.services.metadata JSON``) it is the service's process; ``Metadata`` is how a test holds it.
"""

import json
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from shared_lib.tests.services.double import Clock, Double, Faults, obey

EC2_NOTICE_SECONDS = 120
_LOOK_SECONDS = 0.1


class Metadata(Double):
    """The service, from ``start`` to ``stop``. Faults are injected by the path without its query.

    Args:
        instance_id: The machine's name.
        address: Where to listen.
        port: 0 for any that is free.
        region: The machine's; its zone is the first there.
        notice_file: The machine is being taken away as soon as this file is there.
        prefix: What the process is started by, such as ``ip netns exec NAME``.
        values: Other values than the usual: ``role``, ``access_key``, ``secret_key``, ``token``, ``project``, ``email``.
    """

    module = "shared_lib.tests.services.metadata"

    def __init__(
        self,
        instance_id: str = "i-0123456789abcdef0",
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        region: str = "us-east-1",
        notice_file: str = "",
        prefix: Sequence[str] = (),
        **values: str,
    ) -> None:
        super().__init__()
        self._address = address
        self._prefix = list(prefix)
        self._arguments = {
            "instance_id": instance_id,
            "address": address,
            "port": port,
            "region": region,
            "notice_file": notice_file,
            **values,
        }

    def command(self) -> list[str]:
        """See ``Double.command``."""
        return [*self._prefix, *super().command(), json.dumps(self._arguments)]

    def environment(self) -> dict[str, str]:
        """See ``Double.environment``."""
        return {
            "TASKFLEET_METADATA_URL": f"http://{self._address}:{self.port}",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{self._address}:{self.port}",
            "GCE_METADATA_HOST": f"{self._address}:{self.port}",
        }

    def notice(self, seconds: float = EC2_NOTICE_SECONDS, action: str = "terminate") -> None:
        """Preempt the machine after a number of seconds."""
        self._ask(set={"notice_at": time.time() + seconds, "action": action})

    def recommend_rebalance(self) -> None:
        """Publish AWS's rebalance recommendation."""
        self._ask(set={"rebalance": True})

    def maintenance(self, event: str) -> None:
        """Publish Google's maintenance event: NONE, MIGRATE_ON_HOST_MAINTENANCE or TERMINATE_ON_HOST_MAINTENANCE."""
        self._ask(set={"maintenance": event})

    def end_tokens(self) -> None:
        """Invalidate all session tokens of EC2."""
        self._ask(end_tokens=True)


# --- in the process ---


class _State:
    """The metadata of the machine."""

    def __init__(self, values: Mapping[str, Any], clock: Clock) -> None:
        self.values = {
            "role": "worker-role",
            "access_key": "ASIATESTTESTTESTTEST",
            "secret_key": "test",
            "token": "test-session",
            "project": "test-project",
            "email": "worker@test-project.iam.gserviceaccount.com",
            "maintenance": "NONE",
            "action": "terminate",
            **values,
        }
        self.changed = threading.Condition()
        self._clock = clock
        self._tokens: dict[str, float] = {}

    def hear(self, command: Mapping[str, Any]) -> None:
        with self.changed:
            self.values.update(command.get("set", {}))
            if "end_tokens" in command:
                self._tokens.clear()
            self.changed.notify_all()

    def wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def new_token(self, ttl_seconds: int) -> str:
        token = secrets.token_urlsafe(40)
        with self.changed:
            self._tokens[token] = self._clock.now() + ttl_seconds
        return token

    def knows(self, token: str) -> bool:
        with self.changed:
            return self._tokens.get(token, 0.0) > self._clock.now()

    @property
    def notice_at(self) -> float | None:
        """The time of the preemption; None if there is none."""
        path = self.values.get("notice_file")
        if "notice_at" not in self.values and path and os.path.exists(path):
            self.values["notice_at"] = time.time() + EC2_NOTICE_SECONDS
        at: float | None = self.values.get("notice_at")
        return at

    def of_ec2(self, path: str) -> str | None:
        """Return the content under EC2's ``/latest/``; None if it does not exist."""
        values = self.values
        zone = f"{values['region']}a"
        expiration = _stamp(self._clock.now() + 6 * 3600)
        fixed = {
            "meta-data/instance-id": values["instance_id"],
            "meta-data/instance-type": "c7i.large",
            "meta-data/placement/region": values["region"],
            "meta-data/placement/availability-zone": zone,
            "meta-data/iam/security-credentials/": values["role"],
            f"meta-data/iam/security-credentials/{values['role']}": json.dumps(
                {
                    "Code": "Success",
                    "Type": "AWS-HMAC",
                    "LastUpdated": _stamp(self._clock.now()),
                    "AccessKeyId": values["access_key"],
                    "SecretAccessKey": values["secret_key"],
                    "Token": values["token"],
                    "Expiration": expiration,
                }
            ),
            "dynamic/instance-identity/document": json.dumps(
                {"instanceId": values["instance_id"], "region": values["region"], "availabilityZone": zone}
            ),
        }
        if not values["role"]:
            fixed = {key: value for key, value in fixed.items() if "/iam/" not in key}
        if self.notice_at is not None:
            when = _stamp(self.notice_at)
            fixed["meta-data/spot/instance-action"] = json.dumps({"action": values["action"], "time": when})
        if values.get("rebalance") or self.notice_at is not None:
            fixed["meta-data/events/recommendations/rebalance"] = json.dumps({"noticeTime": _stamp(time.time())})
        return fixed.get(path) or fixed.get(path.removesuffix("/"))

    def of_gce(self, path: str) -> str | None:
        """Return the content under Compute Engine's ``/computeMetadata/v1/``; None if it does not exist."""
        values = self.values
        account = {"email": values["email"], "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
        base = "instance/service-accounts/default/"
        return {
            "instance/name": values["instance_id"],
            "instance/machine-type": "projects/1234567890/machineTypes/n2-standard-2",
            "instance/zone": f"projects/1234567890/zones/{values['region']}-a",
            "instance/preempted": "FALSE" if self.notice_at is None else "TRUE",
            "instance/maintenance-event": values["maintenance"],
            base: json.dumps({"aliases": ["default"], **account}),
            f"{base}email": account["email"],
            f"{base}scopes": "\n".join(account["scopes"]),
            f"{base}token": json.dumps({"access_token": values["token"], "expires_in": 3599, "token_type": "Bearer"}),
            "project/project-id": values["project"],
            "project/numeric-project-id": "1234567890",
        }.get(path)


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _etag(value: str) -> str:
    return f"{hash(value) & 0xFFFFFFFFFFFFFFFF:016x}"


def _handler(state: _State, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if self._turned_away() or self.path != "/latest/api/token":
                self._answer(403 if self.path == "/latest/api/token" else 404, "")
            elif not re.fullmatch("[0-9]{1,5}", ttl) or not 1 <= int(ttl) <= 21_600:
                self._answer(400, "")
            else:
                self._answer(200, state.new_token(int(ttl)), {"X-aws-ec2-metadata-token-ttl-seconds": ttl})

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if self._turned_away():
                self._answer(403, "")
            elif parts.path.startswith("/latest/"):
                token = self.headers.get("X-aws-ec2-metadata-token", "")
                value = state.of_ec2(parts.path.removeprefix("/latest/"))
                if not state.knows(token):
                    self._answer(401, "")
                else:
                    self._answer(404 if value is None else 200, value or "")
            elif self.headers.get("Metadata-Flavor") != "Google":
                self._answer(403, "")
            else:
                self._answer_gce(parts.path.removeprefix("/computeMetadata/v1/"), parse_qs(parts.query))

        def _answer_gce(self, path: str, query: Mapping[str, list[str]]) -> None:
            value = state.of_gce(path)
            if query.get("wait_for_change") == ["true"] and value is not None:
                known = query.get("last_etag", [_etag(value)])[0]
                deadline = time.monotonic() + float(query.get("timeout_sec", ["3600"])[0])
                with state.changed:
                    while _etag(state.of_gce(path) or "") == known and time.monotonic() < deadline:
                        state.changed.wait(_LOOK_SECONDS)
                    value = state.of_gce(path)
            headers = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
            if path in ("", "/") or value is None:
                self._answer(200 if path in ("", "/") else 404, "", headers)
            else:
                kind = "application/json" if value.startswith("{") else "application/text"
                self._answer(200, value, headers | {"ETag": _etag(value), "Content-Type": kind})

        def _turned_away(self) -> bool:
            return "X-Forwarded-For" in self.headers

        def _answer(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
            fault = faults.draw(urlsplit(self.path).path)
            if fault.get("kind") == "error":
                status, text = int(fault.get("status", 500)), ""
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            content = text.encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def main() -> None:
    """Run the service."""
    values = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    clock, faults = Clock(), Faults()
    state = _State({"instance_id": "i-0123456789abcdef0", "region": "us-east-1", **values}, clock)
    address = (values.get("address", "127.0.0.1"), values.get("port", 0))
    server = ThreadingHTTPServer(address, _handler(state, faults))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    obey(server.server_port, clock, faults, state.wake, state.hear)
    os._exit(0)


if __name__ == "__main__":
    main()
