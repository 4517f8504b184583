"""Calls of AWS's services, for several threads, with the credentials, profile and endpoints of the SDK's own chain."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import create_loader
from botocore.session import Session, get_session

from taskfleet.clouds.aws_errors import DENIED, ERRORS, encoded_in, explain, names_permission, reply_of
from taskfleet.clouds.permissions import USER_AGENT
from taskfleet.clouds.side_by_side import side_by_side
from taskfleet.errors import ProviderError

#: Requests in flight.
CALLS = 8
#: How often a request is made in all that may be made again without harm.
TRIES = 5
CONNECT_SECONDS = 5
#: A fleet of a hundred machines is answered for when all of them are started.
ANSWER_SECONDS = 60
#: What a page of each call holds at most (the API references of EC2 and of the Price List).
PAGES = {
    "DescribeInstances": 1000,
    "DescribeInstanceTypeOfferings": 1000,
    "DescribeInstanceTypes": 100,
    "DescribeLaunchTemplates": 200,
    "DescribeNetworkInterfaces": 1000,
    "DescribeSecurityGroups": 1000,
    "DescribeSpotPriceHistory": 1000,
    "DescribeSubnets": 1000,
    "DescribeVolumes": 500,
    "GetProducts": 100,
}

_K = TypeVar("_K")
_T = TypeVar("_T")


class AwsClient:
    """Asks AWS's services in any region; a connection is opened when it is first needed.

    A session is not to be used by two threads at once, its clients are; so these are made under a lock and kept.
    """

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str | None, int], Any] = {}
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._is_over = threading.Event()

    @property
    def region(self) -> str | None:
        """The region that is set for the SDK; None if none is.

        Raises:
            CredentialsError: The profile does not exist.
        """
        try:
            with self._lock:
                found: str | None = self._opened().get_config_variable("region")
        except ERRORS as error:
            raise explain(error, service="sts", operation="", region=None) from error
        return found

    def ask(self, region: str, action: str, *, service: str = "ec2", **arguments: Any) -> Any:
        """Make one call and return its answer.

        Raises:
            UnreachableError: AWS does not answer, reports an internal error, or is asked too often.
            ProviderError: It refuses, or the credentials are wrong.
        """
        try:
            return self.ask_plainly(region, action, service=service, **arguments)
        except ERRORS as error:
            raise self.explain(error, region, action, service=service) from error

    def ask_plainly(
        self, region: str, action: str, *, service: str = "ec2", tries: int | None = None, **arguments: Any
    ) -> Any:
        """Make one call as ``ask`` does; its errors are boto3's (``aws_errors.ERRORS``)."""
        return getattr(self.client(service, region, tries=tries), xform_name(action))(**arguments)

    def pages(self, region: str, action: str, *, service: str = "ec2", **arguments: Any) -> Iterator[Any]:
        """Return a call's answers, page by page; fewer when one of those that ask side by side has failed.

        Raises:
            UnreachableError: As ``ask``.
            ProviderError: As ``ask``.
        """
        try:
            paginator = self.client(service, region).get_paginator(xform_name(action))
            for page in paginator.paginate(**arguments, PaginationConfig={"PageSize": PAGES[action]}):
                yield page
                if self._is_over.is_set():
                    return
        except ERRORS as error:
            raise self.explain(error, region, action, service=service) from error

    def explain(self, error: Exception, region: str, action: str, *, service: str = "ec2") -> ProviderError:
        """Turn what boto3 raised into what this library raises, with the name of the permission if one is missing."""
        if isinstance(error, ClientError) and reply_of(error).code in DENIED:
            error.response["Error"]["Message"] = self.decode(region, reply_of(error).text)
        return explain(error, service=service, operation=action, region=region)

    def decode(self, region: str, text: str) -> str:
        """Name in a refusal what was not permitted, if only AWS can read it and these credentials may have it read; else leave it."""
        encoded = encoded_in(text)
        if names_permission(text) or encoded is None:
            return text
        with suppress(*ERRORS, KeyError, TypeError):
            answer = self.ask_plainly(
                region, "DecodeAuthorizationMessage", service="sts", tries=1, EncodedMessage=encoded
            )
            context = json.loads(answer["DecodedMessage"])["context"]
            return f"not authorized to perform: {context['action']} on resource: {context['resource']}"
        return text

    def side_by_side(self, jobs: Mapping[_K, Callable[[], _T]], *, all_or_nothing: bool = False) -> dict[_K, _T]:
        """Do jobs that ask, each in a thread, and return what each gave.

        Args:
            jobs: By a name for each, such as its region.
            all_or_nothing: When one fails, the others end after the page they are at, and this client reads no more pages; else all are
                done.

        Raises:
            ProviderError: The first of those that failed.
        """
        return side_by_side(jobs, most=CALLS, stop=self._is_over.set if all_or_nothing else None)

    def client(self, service: str, region: str | None, *, tries: int | None = None, **config: Any) -> Any:
        """Return the SDK's client of a service.

        Args:
            service: As the SDK names it.
            region: None for the one that is set for the SDK.
            tries: How often a request is made in all; None for TRIES.
            config: More of botocore's ``Config``; the same each time for one service.
        """
        key = service, region, tries or TRIES
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._opened().create_client(
                    service,
                    region_name=region,
                    config=Config(
                        retries={"total_max_attempts": key[2], "mode": "standard"},
                        connect_timeout=CONNECT_SECONDS,
                        read_timeout=ANSWER_SECONDS,
                        max_pool_connections=CALLS,
                        **config,
                    ),
                )
            return self._clients[key]

    def _opened(self) -> Session:
        if self._session is None:
            self._session = open_session()
        return self._session


def open_session() -> Session:
    """Open a session of the SDK; all share its descriptions of services, of which reading one takes up to a second."""
    session = get_session()
    session.user_agent_extra = USER_AGENT
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


@cache
def _loader(data_path: str | None) -> Any:
    return create_loader(data_path)
