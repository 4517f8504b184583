"""One login at Google Cloud, and how requests are made with it: again while a service is busy, page after page, from its own clients."""

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
    """Makes requests with one login, which is looked for when it is first needed; for several threads.

    A service at an address of plain HTTP gets no login: nobody sends secrets there.
    """

    def __init__(
        self,
        project: str,
        *,
        endpoints: Mapping[Api, str | None] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Say in whose name; nothing is asked yet.

        Args:
            project: Whose; empty for services that need none.
            endpoints: Where services are, if not where gcloud's and the emulators' variables say.
            patience_seconds: For how long to go on asking a service that does not answer.
        """
        self.project = project
        self._endpoints = endpoints or {}
        self._patience_seconds = patience_seconds
        self._stopped = Event()
        self._lock = Lock()
        self._login: Any = None

    def stop(self) -> None:
        """Ask for no more pages."""
        self._stopped.set()

    def endpoint(self, api: Api) -> str:
        """Return scheme and host of where a service is."""
        return api.endpoint(self._endpoints.get(api))

    def client(self, kind: Any) -> Any:
        """Make one of Compute Engine's clients, to be used in a ``with`` statement.

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
        """Make a session of ``requests`` for a service, to be used in a ``with`` statement; what a person asks is charged to the project.

        Raises:
            CredentialsError: There is no login.
        """
        from google.auth.transport.requests import AuthorizedSession

        session = AuthorizedSession(self.credentials(api, is_charged=True))  # type: ignore[no-untyped-call]
        session.headers["User-Agent"] = USER_AGENT
        return session

    def pages(self, method: Callable[..., Any], request: Any, permission: str) -> Iterator[Any]:
        """Return the pages of a listing of Compute Engine, each asked for until it comes."""
        while not self._stopped.is_set():
            page = self.call(lambda: next(iter(method(request, retry=None, timeout=REQUEST_SECONDS).pages)), permission)
            yield page
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token

    def json_pages(
        self, ask: Callable[[str], Any], *, api: Api, permission: str = "", label: str = ""
    ) -> Iterator[Any]:
        """Return the pages of a listing by plain HTTP.

        Args:
            ask: Given the token of a page, empty for the first, asks for it and returns the answer (see ``json_of``).
            api: The service.
            permission: That it needs.
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
        """Do something, again and again while the service is busy; see ``google_errors.call``."""
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
        """Return the login for a service.

        Args:
            api: The service.
            is_charged: Whether it wants to know of a person's which project to charge its requests to.

        Raises:
            CredentialsError: There is no login.
            UnreachableError: What would give one does not answer.
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
    """Look for a login; return it and the project that goes with it, empty if there is none.

    Raises:
        google.auth.exceptions.GoogleAuthError: There is no login.
    """
    import google.auth

    with (
        warnings.catch_warnings()
    ):  # it warns of people's logins without a project, which are given one where a service wants it
        warnings.simplefilter("ignore")
        credentials, project = google.auth.default(scopes=_SCOPES)
    return credentials, project or ""


def json_of(answer: Any) -> Any:
    """Return what a service answered.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: It refused.
    """
    from google.api_core.exceptions import from_http_response

    if not answer.ok:
        raise from_http_response(answer)  # type: ignore[no-untyped-call]
    return answer.json() if answer.content else {}
