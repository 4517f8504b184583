"""The little that is done with buckets: look, put, list, delete. S3 through boto3, Google's by plain HTTP.

Google's storage has a client of its own, ``google-cloud-storage``, that would be one more dependency of every project for four
requests; google-auth, which the other clients bring along, does the login.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from taskfleet.errors import BundleError

_SCHEMES = {"aws": "s3", "gcp": "gs"}
#: For each part of a request; a file's upload may take as long as it moves.
_SILENCE_SECONDS = 60
_PERMISSIONS = {"has": "storage.objects.get", "put": "storage.objects.create", "keys": "storage.objects.list"}


class Bucket(Protocol):
    """A bucket, and a folder in it."""

    folder: str
    """Empty, or ends with a slash."""

    def address(self, key: str) -> str:
        """Give a file's address."""

    def region(self) -> str | None:
        """Say where it is, if a request has to name that."""

    def has(self, key: str) -> bool:
        """Say whether a file is there; False also if that may not be known."""

    def put(self, key: str, path: Path) -> None:
        """Put a file there, whole or not at all."""

    def keys(self, folder: str) -> Iterator[str]:
        """Give the names of all files of a folder; none if there is no bucket."""

    def delete(self, key: str) -> None:
        """Delete a file; one that is gone is no error."""


def open_bucket(address: str, provider: str) -> Bucket:
    """Open the bucket that BUCKET names.

    Args:
        address: ``s3://bucket/folder`` or ``gs://bucket/folder``.
        provider: Whose machines read it: "aws" or "gcp".

    Raises:
        BundleError: It is not an address, or one that the provider's machines have no login for.
    """
    scheme, separator, rest = address.strip().partition("://")
    bucket, _, folder = rest.partition("/")
    wanted = _SCHEMES[provider]
    if not separator or not bucket or scheme not in _SCHEMES.values():
        raise BundleError(f"BUCKET={address} is no bucket's address. Write it as {wanted}://bucket/folder.")
    if scheme != wanted:
        raise BundleError(
            f"BUCKET={address} does not fit PROVIDER={provider}, whose machines have a login for {wanted}:// only. Name a bucket there: "
            f"{wanted}://bucket/folder."
        )
    folder = f"{folder.strip('/')}/" if folder.strip("/") else ""
    return _S3(bucket, folder) if scheme == "s3" else _Gs(bucket, folder)


class _S3:
    def __init__(self, bucket: str, folder: str) -> None:
        import boto3
        from botocore.config import Config

        from taskfleet.clouds.aws_session import open_session
        from taskfleet.machines.aws.faults import ERRORS

        self.folder = folder
        self._bucket = bucket
        self._errors = ERRORS
        try:
            self._client: Any = boto3.session.Session(botocore_session=open_session()).client(
                "s3",
                # stores that only speak like S3 may not know the newer checksums; a bundle has its hash in its name
                config=Config(
                    request_checksum_calculation="when_required", response_checksum_validation="when_required"
                ),
            )
        except ERRORS as error:
            raise self._fault(error, "s3:PutObject") from error

    def address(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def region(self) -> str | None:
        try:
            answer = self._client.head_bucket(Bucket=self._bucket)
        except self._errors as error:
            response = getattr(error, "response", {})
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        else:
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
        found: str | None = headers.get("x-amz-bucket-region") or self._client.meta.region_name
        return found

    def has(self, key: str) -> bool:
        try:
            self._client.head_object(Bucket=self._bucket, Key=key)
        except self._errors as error:
            if self._status(error) in (403, 404):  # a missing file is forbidden to whom may not list the bucket
                return False
            raise self._fault(error, "s3:GetObject") from error
        return True

    def put(self, key: str, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=file)
        except self._errors as error:
            raise self._fault(error, "s3:PutObject") from error

    def keys(self, folder: str) -> Iterator[str]:
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=folder):
                yield from (one["Key"] for one in page.get("Contents", ()))
        except self._errors as error:
            if self._code(error) != "NoSuchBucket":
                raise self._fault(error, "s3:ListBucket") from error

    def delete(self, key: str) -> None:
        try:
            self._client.delete_object(Bucket=self._bucket, Key=key)
        except self._errors as error:
            raise self._fault(error, "s3:DeleteObject") from error

    @staticmethod
    def _status(error: Exception) -> int:
        response = getattr(error, "response", {})
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))

    @staticmethod
    def _code(error: Exception) -> str:
        return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))

    def _fault(self, error: Exception, permission: str) -> BundleError:
        from taskfleet.clouds import aws_faults

        shown = f"s3://{self._bucket}"
        code = self._code(error)
        if trouble := aws_faults.explain_credentials(error):
            return BundleError(f"{shown}: {trouble}")
        if code == "NoSuchBucket":
            return BundleError(f"{shown} does not exist. Make it (aws s3 mb {shown}), or correct BUCKET.")
        if code in aws_faults.CREDENTIALS:
            return BundleError(f"{shown}: {aws_faults.CREDENTIALS[code]} ({code})")
        if code in aws_faults.DENIED or self._status(error) == 403:
            return BundleError(
                f"{shown}: these AWS credentials may not do {permission} there. Have that permission granted, or name a bucket of yours in "
                "BUCKET."
            )
        if aws_faults.is_unreachable(error):
            return BundleError(
                f"{shown} does not answer ({aws_faults.line(error)}). Check the network, and AWS_ENDPOINT_URL if it is set."
            )
        return BundleError(f"{shown} refuses {permission}: {aws_faults.line(error)}.")


class _Gs:
    def __init__(self, bucket: str, folder: str) -> None:
        self.folder = folder
        self._bucket = bucket
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
        if emulator and "://" not in emulator:
            emulator = f"http://{emulator}"
        self._base = emulator or "https://storage.googleapis.com"
        self._anonymous = bool(emulator)
        self._session: Any = None

    def address(self, key: str) -> str:
        return f"gs://{self._bucket}/{key}"

    def region(self) -> str | None:
        return None

    def has(self, key: str) -> bool:
        answer = self._ask("GET", f"storage/v1/{self._path(key)}", "has", params={"fields": "name"}, passing=(403, 404))
        return bool(answer.ok)

    def put(self, key: str, path: Path) -> None:
        with path.open("rb") as file:
            self._ask(
                "POST",
                f"upload/storage/v1/b/{quote(self._bucket, safe='')}/o",
                "put",
                params={"uploadType": "media", "name": key},
                headers={"Content-Type": "application/gzip"},
                data=file,
            )

    def keys(self, folder: str) -> Iterator[str]:
        parameters = {"prefix": folder, "fields": "nextPageToken,items(name)"}
        while True:
            path = f"storage/v1/b/{quote(self._bucket, safe='')}/o"
            answer = self._ask("GET", path, "keys", params=parameters, passing=(404,))
            page = answer.json() if answer.ok else {}
            yield from (one["name"] for one in page.get("items", ()))
            if not page.get("nextPageToken"):
                return
            parameters["pageToken"] = page["nextPageToken"]

    def delete(self, key: str) -> None:
        self._ask("DELETE", f"storage/v1/{self._path(key)}", "delete", passing=(404,))

    def _path(self, key: str) -> str:
        return f"b/{quote(self._bucket, safe='')}/o/{quote(key, safe='')}"

    def _ask(self, method: str, path: str, what: str, *, passing: tuple[int, ...] = (), **more: Any) -> Any:
        import requests
        from google.auth.exceptions import GoogleAuthError

        from taskfleet.clouds.google import LOG_IN

        shown = f"gs://{self._bucket}"
        try:
            answer = self._opened().request(method, f"{self._base}/{path}", timeout=_SILENCE_SECONDS, **more)
        except GoogleAuthError as error:
            raise BundleError(
                f"{shown}: no Google Cloud credentials were found, or they have expired. {LOG_IN}"
            ) from error
        except requests.RequestException as error:
            raise BundleError(
                f"{shown} cannot be reached ({type(error).__name__}). Check the network, and STORAGE_EMULATOR_HOST if it is set."
            ) from error
        status = answer.status_code
        if answer.ok or status in passing:
            return answer
        if status == 404:
            raise BundleError(
                f"{shown} does not exist. Make it (gcloud storage buckets create {shown}), or correct BUCKET."
            )
        if status == 401:
            raise BundleError(
                f"{shown}: Google Cloud does not accept these credentials, or they have expired. {LOG_IN}"
            )
        if status == 403:
            permission = _PERMISSIONS.get(what, "storage.objects.delete")
            raise BundleError(
                f"{shown}: this account may not do {permission} there. Have a role with it granted, for example Storage Object User."
            )
        raise BundleError(f"{shown} refuses what was asked ({status}: {' '.join(answer.text.split())[:200]}).")

    def _opened(self) -> Any:
        if self._session is None:
            if self._anonymous:
                import requests

                self._session = requests.Session()
            else:
                import google.auth
                from google.auth.transport.requests import AuthorizedSession

                scope = "https://www.googleapis.com/auth/devstorage.read_write"
                credentials, _ = google.auth.default(scopes=[scope])
                self._session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        return self._session
