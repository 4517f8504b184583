"""Files in buckets: check, upload, list, delete. S3 through boto3, Cloud Storage through its JSON API.

The client library ``google-cloud-storage`` would be one more dependency of every project, for four requests; google-auth, which other
clients depend on, provides the credentials.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from taskfleet.clouds.google import STORAGE
from taskfleet.errors import ProviderError, WrongSettingError
from taskfleet.machines.provider import load_provider

#: The timeout without any data; an upload may take longer as long as it makes progress.
_TIMEOUT_SECONDS = 60


class Bucket(Protocol):
    """A folder in a bucket."""

    folder: str
    """Empty, or ends with a slash."""

    def address(self, key: str) -> str:
        """Return a file's URL."""

    def region(self) -> str | None:
        """Return the bucket's region, if requests need it."""

    def has(self, key: str) -> bool:
        """Return whether a file exists; False also if the permission to check it is missing."""

    def put(self, key: str, path: Path) -> None:
        """Upload a file atomically."""

    def keys(self, folder: str) -> Iterator[str]:
        """Yield the names of all files of a folder; none if the bucket does not exist."""

    def delete(self, key: str) -> None:
        """Delete a file; do nothing if it does not exist."""


def open_bucket(address: str, provider: str) -> Bucket:
    """Return the bucket of the setting BUCKET.

    Args:
        address: ``s3://bucket/folder`` or ``gs://bucket/folder``.
        provider: The provider whose machines read it, as in PROVIDER.

    Raises:
        WrongSettingError: It is not a URL of a bucket, or the provider's machines have no credentials for it.
    """
    scheme, separator, rest = address.strip().partition("://")
    bucket, _, folder = rest.partition("/")
    wanted = load_provider(provider).bucket_scheme
    if not separator or not bucket or scheme not in _KINDS:
        raise WrongSettingError(
            f"BUCKET={address} is not the URL of a bucket. Set BUCKET={wanted}://bucket/folder.", setting="BUCKET"
        )
    if scheme != wanted:
        raise WrongSettingError(
            f"BUCKET={address} does not match PROVIDER={provider}, whose machines have credentials for {wanted}:// only. Set "
            f"BUCKET={wanted}://bucket/folder.",
            setting="BUCKET",
        )
    folder = f"{folder.strip('/')}/" if folder.strip("/") else ""
    return _KINDS[scheme](bucket, folder)


class _S3:
    def __init__(self, bucket: str, folder: str) -> None:
        from taskfleet.clouds.aws_client import AwsClient
        from taskfleet.clouds.aws_errors import ERRORS

        self.folder = folder
        self._bucket = bucket
        self._errors = ERRORS
        try:
            self._client: Any = AwsClient().client(
                "s3",
                None,
                # S3-compatible stores may not support newer checksums; the name of a bundle contains its hash
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
        except ERRORS as error:
            raise self._error(error, "PutObject") from error

    def address(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def region(self) -> str | None:
        try:
            response = self._client.head_bucket(Bucket=self._bucket)
        except self._errors as error:
            response = getattr(error, "response", {})
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        else:
            headers = response["ResponseMetadata"]["HTTPHeaders"]
        found: str | None = headers.get("x-amz-bucket-region") or self._client.meta.region_name
        return found

    def has(self, key: str) -> bool:
        try:
            self._client.head_object(Bucket=self._bucket, Key=key)
        except self._errors as error:
            if self._status(error) in (
                403,
                404,
            ):  # S3 returns 403 for a missing file without the permission to list the bucket
                return False
            raise self._error(error, "HeadObject") from error
        return True

    def put(self, key: str, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=file)
        except self._errors as error:
            raise self._error(error, "PutObject") from error

    def keys(self, folder: str) -> Iterator[str]:
        from taskfleet.clouds.aws_errors import code_of

        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=folder):
                yield from (one["Key"] for one in page.get("Contents", ()))
        except self._errors as error:
            if code_of(error) != "NoSuchBucket":
                raise self._error(error, "ListObjectsV2") from error

    def delete(self, key: str) -> None:
        try:
            self._client.delete_object(Bucket=self._bucket, Key=key)
        except self._errors as error:
            raise self._error(error, "DeleteObject") from error

    @staticmethod
    def _status(error: Exception) -> int:
        response = getattr(error, "response", {})
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))

    def _error(self, error: Exception, operation: str) -> ProviderError:
        from taskfleet.clouds.aws_errors import CREDENTIALS, code_of, denial, explain, permission_for, reply_of

        shown, code = f"s3://{self._bucket}", code_of(error)
        if code == "NoSuchBucket":
            return _no_bucket(shown, f"aws s3 mb {shown}", code)
        if self._status(error) == 403 and code not in CREDENTIALS:
            advice = "set BUCKET to a bucket of yours"
            permission = permission_for("s3", operation)
            return denial(shown, reply_of(error), permission, resource=shown, or_else=advice)
        return explain(error, service="s3", operation=operation, region=None, label=shown)


class _Gs:
    def __init__(self, bucket: str, folder: str) -> None:
        from taskfleet.clouds.google_session import GoogleSession

        self.folder = folder
        self._shown = f"gs://{bucket}"
        self._path = f"/storage/v1/b/{quote(bucket, safe='')}/o"
        self._session = GoogleSession("", patience_seconds=0.0)
        self._base = self._session.endpoint(STORAGE)

    def address(self, key: str) -> str:
        return f"{self._shown}/{key}"

    def region(self) -> str | None:
        return None

    def has(self, key: str) -> bool:
        path = f"{self._path}/{quote(key, safe='')}"
        found = self._ask("GET", path, "storage.objects.get", passing=(403, 404), params={"fields": "name"})
        return found is not None

    def put(self, key: str, path: Path) -> None:
        with path.open("rb") as file:
            self._ask(
                "POST",
                f"/upload{self._path}",
                "storage.objects.create",
                params={"uploadType": "media", "name": key},
                headers={"Content-Type": "application/gzip"},
                data=file,
            )

    def keys(self, folder: str) -> Iterator[str]:
        parameters = {"prefix": folder, "fields": "nextPageToken,items(name)"}
        while True:
            page = self._ask("GET", self._path, "storage.objects.list", passing=(404,), params=parameters) or {}
            yield from (one["name"] for one in page.get("items", ()))
            if not page.get("nextPageToken"):
                return
            parameters["pageToken"] = page["nextPageToken"]

    def delete(self, key: str) -> None:
        self._ask("DELETE", f"{self._path}/{quote(key, safe='')}", "storage.objects.delete", passing=(404,))

    def _ask(self, method: str, path: str, permission: str, *, passing: tuple[int, ...] = (), **more: Any) -> Any:
        """Make a request and return the JSON of the response; None for a status in ``passing``."""
        from taskfleet.clouds.google_session import json_of

        def ask() -> Any:
            response = http.request(method, f"{self._base}{path}", timeout=_TIMEOUT_SECONDS, **more)
            if response.status_code in passing:
                return None
            if response.status_code == 404:
                raise _no_bucket(self._shown, f"gcloud storage buckets create {self._shown}", "notFound")
            return json_of(response)

        with self._session.http(STORAGE) as http:
            return self._session.call(ask, permission, api=STORAGE, label=self._shown)


def _no_bucket(shown: str, command: str, code: str) -> WrongSettingError:
    return WrongSettingError(
        f"{shown} does not exist. Create it with: {command}, or correct BUCKET.", setting="BUCKET", code=code
    )


#: By URL scheme.
_KINDS: dict[str, Callable[[str, str], Bucket]] = {"s3": _S3, "gs": _Gs}
