"""Cloud Storage on this machine, over plain HTTP: gcp-storage-emulator, which permits everything, with the denials that a test sets.

As a module (``python -m shared_lib.tests.services.storage``) it is the server's process; ``Storage`` is how a test holds it. Permissions
are those of https://cloud.google.com/storage/docs/access-control/iam-json.
"""

import json
import logging
import re
import threading
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from taskfleet.clouds.google_permissions import GOOGLE

from shared_lib.tests.services.double import Clock, Double, Faults, obey

BUCKET = "code"
USER = "tester@example.com"
_BUCKET = r"(?:/upload|/download)?(?:/storage/v1)?/b/[^/]+"
#: By method and path: action and permission; the first match counts.
_ACTIONS = (
    ("GET", rf"{_BUCKET}/o", "objects.list", "storage.objects.list"),
    ("GET", rf"{_BUCKET}/o/.+", "objects.get", "storage.objects.get"),
    ("POST", rf"{_BUCKET}/o", "objects.insert", "storage.objects.create"),
    ("DELETE", rf"{_BUCKET}/o/.+", "objects.delete", "storage.objects.delete"),
)


class Storage(Double):
    """A bucket, until ``stop``. Faults are injected by method of the JSON API, such as ``objects.insert``, with ``code`` of HTTP."""

    module = "shared_lib.tests.services.storage"

    @property
    def endpoint(self) -> str:
        """The URL."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """See ``Double.environment``; it is the emulators' variable."""
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def forbid(self, *permissions: str) -> None:
        """Deny these permissions, and grant all others."""
        assert all(one in GOOGLE for one in permissions), permissions
        self._ask(forbid=permissions)


# --- in the process ---


def _handler_class(faults: Faults, forbidden: set[str]) -> Any:
    from gcp_storage_emulator.server import RequestHandler

    class Handler(RequestHandler):  # type: ignore[misc, no-any-unimported]
        def do_GET(self) -> None:
            """Handle a request."""
            path = self.path.partition("?")[0]
            for method, pattern, action, permission in _ACTIONS:
                if method == self.command and re.fullmatch(pattern, path):
                    faults.need(permission)
                    if action == "objects.insert" and self._replaces():
                        faults.need("storage.objects.delete")
                    if fault := faults.draw(action):
                        return self._refuse(fault["code"], fault.get("message", "ordered"))
                    if permission in forbidden:
                        text = f"{USER} does not have {permission} access to the Google Cloud Storage object."
                        return self._refuse(403, text)
                    break
            return getattr(super(), f"do_{self.command}")()

        do_POST = do_DELETE = do_PUT = do_PATCH = do_GET

        def _replaces(self) -> bool:
            """Return whether an object of this name exists: to replace one, the permission to delete it is needed, too."""
            from gcp_storage_emulator.exceptions import NotFound

            parts = urlsplit(self.path)
            bucket = unquote(parts.path.partition("/b/")[2].partition("/")[0])
            try:
                self.storage.get_file_obj(bucket, parse_qs(parts.query).get("name", [""])[0])
            except NotFound:
                return False
            return True

        def _refuse(self, code: int, text: str) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reason = "forbidden" if code == 403 else "ordered"
            error = {"code": code, "message": text, "errors": [{"reason": reason, "message": text}]}
            body = json.dumps({"error": error}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def main() -> None:
    """Run the server on a free port of the loopback interface."""
    try:
        from gcp_storage_emulator.handlers.buckets import create_bucket
        from gcp_storage_emulator.storage import Storage as Files
    except ImportError:
        print(json.dumps({"lacks": "gcp-storage-emulator is not installed"}), flush=True)
        return
    logging.disable(logging.CRITICAL)
    files = Files(use_memory_fs=True)
    create_bucket(BUCKET, files)
    faults, forbidden = Faults(), set[str]()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_handler_class(faults, forbidden), files))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def hear(command: Any) -> None:
        if "forbid" in command:
            forbidden.clear()
            forbidden.update(command["forbid"])

    obey(server.server_address[1], Clock(), faults, lambda: None, hear)
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
