"""One login at Google Cloud, and how requests are made with it: again while a service is busy, page after page, from its own clients."""

import os
import warnings
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from taskfleet.errors import CommandError, TaskfleetError

PATIENCE_SECONDS = 20.0
REQUEST_SECONDS = 60.0
#: The variable with which gcloud is pointed elsewhere, and the clients' default.
COMPUTE = ("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "https://compute.googleapis.com")
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


class Session:
    """Makes the requests, with one login."""

    #: What is raised when a service refuses, and when it does not answer.
    refused: type[TaskfleetError] = CommandError
    unreachable: type[TaskfleetError] = CommandError

    def __init__(self, project: str, compute_endpoint: str | None, patience_seconds: float) -> None:
        self._project = project
        self._compute = endpoint(compute_endpoint, *COMPUTE)
        self._patience_seconds = patience_seconds
        self._stopped = Event()
        self._credentials = self._log_in()

    def stop(self) -> None:
        """Ask for no more pages."""
        self._stopped.set()

    @property
    def project(self) -> str:
        """In whose name."""
        return self._project

    def client(self, kind: Any) -> Any:
        """Make one of Google's clients, to be used in a ``with`` statement."""
        return kind(
            credentials=self._credentials, client_options={"api_endpoint": self._compute.removeprefix("https://")}
        )

    def pages(self, method: Callable[..., Any], request: Any, permission: str) -> Iterator[Any]:
        """Give the pages of a listing, each asked for until it comes."""
        while not self._stopped.is_set():
            page = self.call(
                lambda: next(iter(method(request, retry=None, timeout=REQUEST_SECONDS).pages)),
                "Compute Engine",
                permission,
            )
            yield page
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token

    def call(self, action: Callable[[], Any], service: str, permission: str = "", project: str | None = None) -> Any:
        """Do something, again and again while the service is busy; see ``faults.call``."""
        from taskfleet.machines.gcp.faults import call

        return call(
            action,
            service=service,
            project=project or self._project,
            permission=permission,
            patience_seconds=self._patience_seconds,
            refused=self.refused,
            unreachable=self.unreachable,
        )

    def _log_in(self) -> Any:
        import google.auth
        from google.auth.credentials import AnonymousCredentials

        if self._compute.startswith("http:"):  # nobody sends secrets there
            return AnonymousCredentials()  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():  # it warns of people's logins without a project, which gets one below
            warnings.simplefilter("ignore")
            return self.call(lambda: google.auth.default(scopes=_SCOPES)[0], "Compute Engine")

    def charged_credentials(self) -> Any:
        """Give the login for services that want to know of a person's which project to charge its requests to."""
        from google.oauth2.credentials import Credentials

        if isinstance(self._credentials, Credentials) and not self._credentials.quota_project_id:
            return self._credentials.with_quota_project(self._project)
        return self._credentials


def endpoint(given: str | None, variable: str, default: str) -> str:
    """Give scheme and host of where a service is; gcloud's variables have a path too."""
    parts = urlsplit(given or os.environ.get(variable) or default)
    return f"{parts.scheme}://{parts.netloc}"
