"""A thread-safe client for AWS services, with the credentials, profile and endpoints of the SDK's default chain."""

import json
import logging
import os
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
from taskfleet.clouds.parallel import run_parallel
from taskfleet.clouds.permissions import USER_AGENT
from taskfleet.errors import ProviderError

logger = logging.getLogger(__name__)

#: The maximum number of concurrent requests.
CALLS = 8
#: The maximum number of attempts of a request, retries included.
MAX_ATTEMPTS = 5
CONNECT_SECONDS = 5
#: CreateFleet answers for a fleet of 100 machines when all of them are launched.
READ_SECONDS = 60
#: The maximum page size of each call, from the API references of EC2 and of the Price List.
PAGE_SIZES = {
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
    """Makes calls of AWS services in any region. Clients are created when first needed.

    Sessions of the SDK are not thread-safe, its clients are; so clients are created under a lock and cached.
    """

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str | None, int], Any] = {}
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._is_over = threading.Event()

    @property
    def region(self) -> str | None:
        """The SDK's default region; None if there is none.

        Raises:
            CredentialsError: The profile does not exist.
        """
        try:
            with self._lock:
                found: str | None = self._opened().get_config_variable("region")
        except ERRORS as error:
            raise explain(error, service="sts", operation="", region=None) from error
        return found

    def call(self, region: str, action: str, *, service: str = "ec2", **arguments: Any) -> Any:
        """Make one call and return its response.

        Raises:
            UnreachableError: AWS does not answer, reports an internal error, or throttles the call.
            ProviderError: AWS rejects the call, or the credentials are wrong.
        """
        try:
            return self.call_raw(region, action, service=service, **arguments)
        except ERRORS as error:
            raise self.explain(error, region, action, service=service) from error

    def call_raw(
        self, region: str, action: str, *, service: str = "ec2", max_attempts: int | None = None, **arguments: Any
    ) -> Any:
        """Make one call as ``call`` does; its errors are the SDK's (``aws_errors.ERRORS``)."""
        logger.debug("calling %s:%s in %s", service, action, region)
        return getattr(self.client(service, region, max_attempts=max_attempts), xform_name(action))(**arguments)

    def pages(self, region: str, action: str, *, service: str = "ec2", **arguments: Any) -> Iterator[Any]:
        """Yield the pages of a call's response; fewer if a parallel call with ``all_or_nothing`` has failed.

        Raises:
            UnreachableError: As ``call``.
            ProviderError: As ``call``.
        """
        try:
            paginator = self.client(service, region).get_paginator(xform_name(action))
            for page in paginator.paginate(**arguments, PaginationConfig={"PageSize": PAGE_SIZES[action]}):
                yield page
                if self._is_over.is_set():
                    return
        except ERRORS as error:
            raise self.explain(error, region, action, service=service) from error

    def explain(self, error: Exception, region: str, action: str, *, service: str = "ec2") -> ProviderError:
        """Convert an SDK error to an error of this library, with the name of the permission if one is missing."""
        if isinstance(error, ClientError) and reply_of(error).code in DENIED:
            error.response["Error"]["Message"] = self.decode(region, reply_of(error).text)
        return explain(error, service=service, operation=action, region=region)

    def decode(self, region: str, text: str) -> str:
        """Return the text of a denial with its encoded part decoded; unchanged if it has none or the credentials lack the permission."""
        encoded = encoded_in(text)
        if names_permission(text) or encoded is None:
            return text
        with suppress(*ERRORS, KeyError, TypeError):
            answer = self.call_raw(
                region, "DecodeAuthorizationMessage", service="sts", max_attempts=1, EncodedMessage=encoded
            )
            context = json.loads(answer["DecodedMessage"])["context"]
            return f"not authorized to perform: {context['action']} on resource: {context['resource']}"
        return text

    def run_parallel(self, jobs: Mapping[_K, Callable[[], _T]], *, all_or_nothing: bool = False) -> dict[_K, _T]:
        """Run functions that make calls in threads, and return their results.

        Args:
            jobs: The functions, each with a key, such as its region.
            all_or_nothing: After the first failure, the others end after their current page, and this client reads no more pages. Without
                it, all run to the end.

        Raises:
            ProviderError: The error of the first that failed.
        """
        return run_parallel(jobs, max_threads=CALLS, stop=self._is_over.set if all_or_nothing else None)

    def client(self, service: str, region: str | None, *, max_attempts: int | None = None, **config: Any) -> Any:
        """Return the SDK's client for a service.

        Args:
            service: As the SDK names it.
            region: None for the SDK's default region.
            max_attempts: Of a request, retries included; None for MAX_ATTEMPTS.
            config: More arguments of botocore's ``Config``; always the same for one service.
        """
        key = service, region, max_attempts or MAX_ATTEMPTS
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._opened().create_client(
                    service,
                    region_name=region,
                    config=Config(
                        retries={"total_max_attempts": key[2], "mode": "standard"},
                        connect_timeout=CONNECT_SECONDS,
                        read_timeout=READ_SECONDS,
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
    """Open a session of the SDK. All sessions share the service descriptions; reading one takes up to a second.

    As for the AWS CLI and the other SDKs, AWS_REGION takes precedence over AWS_DEFAULT_REGION; botocore reads the latter only.
    """
    session = get_session()
    if region := os.environ.get("AWS_REGION"):
        session.set_config_variable("region", region)
    session.user_agent_extra = USER_AGENT
    session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


@cache
def _loader(data_path: str | None) -> Any:
    return create_loader(data_path)
