"""Small files in buckets: read, write, list, delete. S3 through boto3, Cloud Storage through its JSON API.

The client library ``google-cloud-storage`` would be one more dependency of every project, for five requests; google-auth, which other
clients depend on, provides the credentials. Large results and outputs are streamed with ``pyarrow.fs`` instead, see ``outputs``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, Protocol
from urllib.parse import quote

from taskfleet.clouds.google import STORAGE
from taskfleet.errors import ProviderError, WrongSettingError

#: For a connection, and for an answer without any data; an upload may take longer as long as it makes progress.
_TIMEOUTS_SECONDS = (5, 60)
#: What services answer for a file that does not exist; S3 answers 403 without the permission to list the bucket.
_MISSING = (403, 404)
_UNCHANGED = 304


class Stored(NamedTuple):
    """The content of a file."""

    content: bytes
    tag: str
    """Identifies the content."""


class ObjectStore(Protocol):
    """A folder in a bucket; names of files are relative to it.

    Raises:
        WrongSettingError: From methods that write: the bucket does not exist.
        ProviderError: From every method: a permission is missing, there is no login, or the service does not answer.
    """

    def address(self, name: str) -> str:
        """Return a file's URL."""

    def region(self) -> str | None:
        """Return the bucket's region, if requests need it."""

    def exists(self, name: str) -> bool:
        """Return whether a file exists; False also if the permission to check it is missing."""

    def get(self, name: str, *, unless: str = "") -> Stored | None:
        """Return the content of a file; None if it has the tag ``unless``, does not exist, or may not be read."""

    def put(self, name: str, content: bytes | BinaryIO) -> None:
        """Write a file atomically."""

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names of all files that begin with a prefix; none if the bucket does not exist."""

    def delete(self, name: str) -> None:
        """Delete a file; do nothing if it does not exist."""

    def close(self) -> None:
        """Close connections."""


def open_store(address: str) -> ObjectStore:
    """Return the store of the setting BUCKET.

    Args:
        address: ``s3://bucket/folder`` or ``gs://bucket/folder``; the folder is optional.

    Raises:
        WrongSettingError: It is not a URL of a bucket.
        ProviderError: The credentials cannot be used.
    """
    scheme, _, rest = address.strip().partition("://")
    bucket, _, folder = rest.partition("/")
    if scheme not in _KINDS or not bucket:
        raise WrongSettingError(
            f"BUCKET={address} is not the URL of a bucket. Set BUCKET=s3://bucket/folder or gs://bucket/folder.",
            setting="BUCKET",
        )
    return _KINDS[scheme](bucket, f"{folder.strip('/')}/".lstrip("/"))


class _S3:
    def __init__(self, bucket: str, folder: str) -> None:
        from taskfleet.clouds.aws_client import AwsClient

        self._bucket, self._folder = bucket, folder
        options: dict[str, Any] = {  # S3-compatible stores may not support newer checksums
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        with self._explaining("PutObject"):
            self._client: Any = AwsClient().client("s3", None, **options)

    def address(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._folder}{name}"

    def region(self) -> str | None:
        from taskfleet.clouds.aws_errors import ERRORS

        try:
            response = self._client.head_bucket(Bucket=self._bucket)
        except ERRORS as error:  # the answer names it all the same
            response = getattr(error, "response", {})
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        found: str | None = headers.get("x-amz-bucket-region") or self._client.meta.region_name
        return found

    def exists(self, name: str) -> bool:
        with self._explaining("HeadObject", _MISSING):
            self._client.head_object(**self._object(name))
            return True
        return False

    def get(self, name: str, *, unless: str = "") -> Stored | None:
        condition = {"IfNoneMatch": unless} if unless else {}
        with self._explaining("GetObject", (*_MISSING, _UNCHANGED)):
            response = self._client.get_object(**self._object(name), **condition)
            return Stored(response["Body"].read(), response["ETag"])
        return None

    def put(self, name: str, content: bytes | BinaryIO) -> None:
        with self._explaining("PutObject"):
            self._client.put_object(**self._object(name), Body=content)

    def names(self, prefix: str) -> Iterator[str]:
        with self._explaining("ListObjectsV2", (404,)):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._folder}{prefix}"):
                yield from (one["Key"].removeprefix(self._folder) for one in page.get("Contents", ()))

    def delete(self, name: str) -> None:
        with self._explaining("DeleteObject"):
            self._client.delete_object(**self._object(name))

    def close(self) -> None:
        self._client.close()

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._folder}{name}"}

    @contextmanager
    def _explaining(self, operation: str, passing: tuple[int, ...] = ()) -> Iterator[None]:
        """Convert errors, and end the block without one for a status in ``passing``."""
        from taskfleet.clouds.aws_errors import ERRORS

        try:
            yield
        except ERRORS as error:
            status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status not in passing:
                raise self._error(error, operation, status) from error

    def _error(self, error: Exception, operation: str, status: int) -> ProviderError:
        from taskfleet.clouds.aws_errors import CREDENTIALS, code_of, denial, explain, permission_for, reply_of

        shown, code = f"s3://{self._bucket}", code_of(error)
        if code == "NoSuchBucket":
            return _no_bucket(shown, f"aws s3 mb {shown}", code)
        if status == 403 and code not in CREDENTIALS:
            advice = "set BUCKET to a bucket of yours"
            permission = permission_for("s3", operation)
            return denial(shown, reply_of(error), permission, resource=shown, or_else=advice)
        return explain(error, service="s3", operation=operation, region=None, label=shown)


class _CloudStorage:
    def __init__(self, bucket: str, folder: str) -> None:
        from taskfleet.clouds.google_session import GoogleSession

        self._folder = folder
        self._shown = f"gs://{bucket}"
        self._objects = f"/storage/v1/b/{quote(bucket, safe='')}/o"
        self._session = GoogleSession("", patience_seconds=0.0)
        self._base = self._session.endpoint(STORAGE)

    def address(self, name: str) -> str:
        return f"{self._shown}/{self._folder}{name}"

    def region(self) -> str | None:
        return None

    def exists(self, name: str) -> bool:
        fields = {"fields": "name"}
        return self._ask("GET", self._path(name), "storage.objects.get", _MISSING, params=fields) is not None

    def get(self, name: str, *, unless: str = "") -> Stored | None:
        more: dict[str, Any] = {"params": {"alt": "media"}, "headers": {"If-None-Match": unless} if unless else {}}
        response = self._ask("GET", self._path(name), "storage.objects.get", (*_MISSING, _UNCHANGED), **more)
        return response and Stored(response.content, response.headers.get("ETag", ""))

    def put(self, name: str, content: bytes | BinaryIO) -> None:
        parameters = {"uploadType": "media", "name": f"{self._folder}{name}"}
        headers = {"Content-Type": "application/octet-stream", "Cache-Control": "no-store"}
        path = f"/upload{self._objects}"
        self._ask("POST", path, "storage.objects.create", params=parameters, headers=headers, data=content)

    def names(self, prefix: str) -> Iterator[str]:
        parameters = {"prefix": f"{self._folder}{prefix}", "fields": "nextPageToken,items(name)"}
        while response := self._ask("GET", self._objects, "storage.objects.list", (404,), params=parameters):
            page = response.json()
            yield from (one["name"].removeprefix(self._folder) for one in page.get("items", ()))
            if not page.get("nextPageToken"):
                return
            parameters["pageToken"] = page["nextPageToken"]

    def delete(self, name: str) -> None:
        self._ask("DELETE", self._path(name), "storage.objects.delete", (404,))

    def close(self) -> None:
        self._session.stop()

    def _path(self, name: str) -> str:
        return f"{self._objects}/{quote(f'{self._folder}{name}', safe='')}"

    def _ask(self, method: str, path: str, permission: str, passing: tuple[int, ...] = (), **more: Any) -> Any:
        """Make a request and return the response; None for a status in ``passing``."""
        from google.api_core.exceptions import from_http_response

        def ask() -> Any:
            response = http.request(method, f"{self._base}{path}", timeout=_TIMEOUTS_SECONDS, **more)
            if response.status_code in passing:
                return None
            if response.status_code == 404:
                raise _no_bucket(self._shown, f"gcloud storage buckets create {self._shown}", "notFound")
            if not response.ok:
                raise from_http_response(response)  # type: ignore[no-untyped-call]
            return response

        with self._session.http(STORAGE) as http:
            return self._session.call(ask, permission, api=STORAGE, label=self._shown)


def _no_bucket(shown: str, command: str, code: str) -> WrongSettingError:
    return WrongSettingError(
        f"{shown} does not exist. Create it with: {command}, or correct BUCKET.", setting="BUCKET", code=code
    )


#: By URL scheme.
_KINDS: dict[str, Callable[[str, str], ObjectStore]] = {"s3": _S3, "gs": _CloudStorage}
