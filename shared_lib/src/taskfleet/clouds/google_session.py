"""Requests to Google Cloud with one login: retries, paging, and clients of the SDK."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from threading import Event, Lock
from typing import Any

from taskfleet.clouds.google import COMPUTE, Api
from taskfleet.clouds.permissions import USER_AGENT

PATIENCE_SECONDS = 20.0
REQUEST_SECONDS = 60.0
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


class GoogleSession:
    """Makes requests with one login, which is obtained when first needed. Thread-safe.

    No credentials are sent to an endpoint without TLS.
    """

    def __init__(
        self,
        project: str,
        *,
        endpoints: Mapping[Api, str | None] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Create a session; no request is made yet.

        Args:
            project: The Google Cloud project; empty for services that need none.
            endpoints: Override the endpoints in the variables of gcloud and the emulators.
            patience_seconds: How long requests are retried while a service does not answer.
        """
        self.project = project
        self._endpoints = endpoints or {}
        self._patience_seconds = patience_seconds
        self._stopped = Event()
        self._lock = Lock()
        self._login: Any = None

    def stop(self) -> None:
        """Request no more pages."""
        self._stopped.set()

    def endpoint(self, api: Api) -> str:
        """Return the scheme and host of a service."""
        return api.endpoint(self._endpoints.get(api))

    def client(self, kind: Any) -> Any:
        """Return a client of Compute Engine, for a ``with`` statement.

        Raises:
            CredentialsError: There is no login.
        """
        from google.api_core.gapic_v1.client_info import ClientInfo

        return kind(
            credentials=self.credentials(COMPUTE),
            client_options={"api_endpoint": self.endpoint(COMPUTE).removeprefix("https://")},
            client_info=ClientInfo(user_agent=USER_AGENT),  # type: ignore[no-untyped-call]
        )

    def http(self, api: Api) -> Any:
        """Return a session of ``requests`` for a service, for a ``with`` statement; requests of a user account are charged to the project.

        Raises:
            CredentialsError: There is no login.
        """
        from google.auth.transport.requests import AuthorizedSession

        session = AuthorizedSession(self.credentials(api, is_charged=True))  # type: ignore[no-untyped-call]
        session.headers["User-Agent"] = USER_AGENT
        return session

    def pages(self, method: Callable[..., Any], request: Any, permission: str) -> Iterator[Any]:
        """Yield the pages of a list request to Compute Engine, each with retries."""
        while not self._stopped.is_set():
            page = self.call(lambda: next(iter(method(request, retry=None, timeout=REQUEST_SECONDS).pages)), permission)
            yield page
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token

    def json_pages(
        self, ask: Callable[[str], Any], *, api: Api, permission: str = "", label: str = ""
    ) -> Iterator[Any]:
        """Yield the pages of a list request over HTTP.

        Args:
            ask: Requests the page with a given token, empty for the first, and returns the response (see ``json_of``).
            api: The service.
            permission: That the request needs.
            label: See ``google_errors.call``.
        """
        token = ""
        while not self._stopped.is_set():
            page = self.call(partial(ask, token), permission, api=api, label=label)
            yield page
            token = page.get("nextPageToken", "")
            if not token:
                break

    def call(
        self,
        action: Callable[[], Any],
        permission: str = "",
        *,
        api: Api = COMPUTE,
        project: str | None = None,
        label: str = "",
    ) -> Any:
        """Make a call with retries; see ``google_errors.call``."""
        from taskfleet.clouds.google_errors import call

        return call(
            action,
            api=api,
            project=self.project if project is None else project,
            permission=permission,
            label=label,
            patience_seconds=self._patience_seconds,
        )

    def credentials(self, api: Api, *, is_charged: bool = False) -> Any:
        """Return the credentials for a service.

        Args:
            api: The service.
            is_charged: Whether requests of a user account need a quota project.

        Raises:
            CredentialsError: There is no login.
            UnreachableError: The authentication service does not answer.
        """
        from google.auth.credentials import AnonymousCredentials
        from google.oauth2.credentials import Credentials

        if self.endpoint(api).startswith("http:"):
            return AnonymousCredentials()  # type: ignore[no-untyped-call]
        with self._lock:
            if self._login is None:
                self._login = self.call(lambda: log_in()[0], api=api)
        if is_charged and self.project and isinstance(self._login, Credentials) and not self._login.quota_project_id:
            return self._login.with_quota_project(self.project)
        return self._login


def log_in() -> tuple[Any, str]:
    """Return the default credentials and their project, empty if they have none.

    Raises:
        google.auth.exceptions.GoogleAuthError: There is no login.
    """
    import google.auth

    # It warns about user accounts without a quota project, which requests get where a service needs it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        credentials, project = google.auth.default(scopes=_SCOPES)
    return credentials, project or ""


def json_of(answer: Any) -> Any:
    """Return the decoded body of a response.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: The response is an error.
    """
    from google.api_core.exceptions import from_http_response

    if not answer.ok:
        raise from_http_response(answer)  # type: ignore[no-untyped-call]
    return answer.json() if answer.content else {}
