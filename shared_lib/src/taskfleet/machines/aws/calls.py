"""Calls of AWS's services for machines, several regions at once, whose errors are those that ``Machines`` promises."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from taskfleet.clouds.aws_faults import DENIED, answer_of
from taskfleet.clouds.aws_session import open_session
from taskfleet.errors import MachinesError
from taskfleet.machines.aws.faults import ERRORS, encoded_in, permission_of, trouble_of

#: Requests in flight.
CALLS = 8
#: How often a request is made in all that may be made again without harm.
TRIES = 4
CONNECT_SECONDS = 5
#: A fleet of a hundred machines is answered for when all of them are started.
ANSWER_SECONDS = 60
#: What a page of each call holds at most (the API reference of EC2).
PAGES = {
    "DescribeInstances": 1000,
    "DescribeLaunchTemplates": 200,
    "DescribeNetworkInterfaces": 1000,
    "DescribeSecurityGroups": 1000,
    "DescribeSubnets": 1000,
    "DescribeVolumes": 500,
}

_T = TypeVar("_T")


class AwsCalls:
    """Asks AWS; credentials, profile and endpoints are those of the SDK's own chain. For several threads."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str, int], Any] = {}
        self._lock = threading.Lock()
        self._session: Any = None

    def ask(self, region: str, action: str, *, service: str = "ec2", tries: int = TRIES, **arguments: Any) -> Any:
        """Make one call and give its answer.

        Raises:
            MachinesUnreachableError: AWS does not answer, has a trouble of its own, or is asked too often.
            MachinesError: It refuses, or the credentials are wrong.
        """
        try:
            return self.ask_plainly(region, action, service=service, tries=tries, **arguments)
        except ERRORS as error:
            raise self.trouble(error, region, action, service=service) from error

    def ask_plainly(
        self, region: str, action: str, *, service: str = "ec2", tries: int = TRIES, **arguments: Any
    ) -> Any:
        """Make one call as ``ask`` does; its errors are boto3's (``aws_faults.ERRORS``)."""
        return getattr(self._client(service, region, tries), xform_name(action))(**arguments)

    def pages(self, region: str, action: str, **arguments: Any) -> Iterator[Any]:
        """Give a call's answers, page by page.

        Raises:
            MachinesUnreachableError: As ``ask``.
            MachinesError: As ``ask``.
        """
        try:
            client = self._client("ec2", region, TRIES)
            paginator = client.get_paginator(xform_name(action))
            yield from paginator.paginate(**arguments, PaginationConfig={"PageSize": PAGES[action]})
        except ERRORS as error:
            raise self.trouble(error, region, action) from error

    def trouble(self, error: Exception, region: str, action: str, *, service: str = "ec2") -> MachinesError:
        """Turn what boto3 raised into what ``Machines`` promises, with the name of the permission that is missing."""
        if isinstance(error, ClientError) and answer_of(error).code in DENIED:
            error.response["Error"]["Message"] = self.decode(region, answer_of(error).text)
        return trouble_of(error, service=service, action=action, region=region)

    def decode(self, region: str, text: str) -> str:
        """Name in a refusal what was not permitted, if only AWS can read it and these credentials may have it read; else leave it."""
        encoded = encoded_in(text)
        if permission_of(text) is not None or encoded is None:
            return text
        with suppress(*ERRORS, KeyError, TypeError):
            answer = self.ask_plainly(
                region, "DecodeAuthorizationMessage", service="sts", tries=1, EncodedMessage=encoded
            )
            context = json.loads(answer["DecodedMessage"])["context"]
            return f"not authorized to perform: {context['action']} on resource: {context['resource']}"
        return text

    def side_by_side(self, function: Callable[[str], _T], regions: Sequence[str]) -> list[_T]:
        """Do the same in several regions, each in a thread; give what came of it, in their order.

        Raises:
            MachinesError: The first region's that failed, when all have ended.
        """
        if len(regions) == 1:
            return [function(regions[0])]
        with ThreadPoolExecutor(min(CALLS, len(regions))) as pool:
            return list(pool.map(function, regions))

    def _client(self, service: str, region: str, tries: int) -> Any:
        with self._lock:  # a session is not to be used by two threads at once, its clients are
            key = service, region, tries
            if key not in self._clients:
                if self._session is None:
                    self._session = open_session()
                self._clients[key] = self._session.create_client(
                    service,
                    region_name=region,
                    config=Config(
                        retries={"total_max_attempts": tries, "mode": "standard"},
                        connect_timeout=CONNECT_SECONDS,
                        read_timeout=ANSWER_SECONDS,
                        max_pool_connections=CALLS,
                    ),
                )
            return self._clients[key]
