"""The services of Google Cloud that this library uses: names and endpoints."""

import os
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A service."""

    title: str
    """For messages."""
    name: str
    """As in ``gcloud services enable``."""
    variable: str
    """The environment variable that overrides its endpoint, of gcloud or an emulator."""

    def endpoint(self, given: str | None = None) -> str:
        """Return the scheme and host of its endpoint.

        Args:
            given: An endpoint that overrides the variable and Google's default. Its path is dropped: gcloud's variables have one.
        """
        address = given or os.environ.get(self.variable) or f"https://{self.name}"
        parts = urlsplit(address if "://" in address else f"http://{address}")
        return f"{parts.scheme}://{parts.netloc}"


COMPUTE: Final = Api(
    title="Compute Engine", name="compute.googleapis.com", variable="CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE"
)
BILLING: Final = Api(
    title="Cloud Billing", name="cloudbilling.googleapis.com", variable="CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING"
)
RESOURCE_MANAGER: Final = Api(
    title="Cloud Resource Manager",
    name="cloudresourcemanager.googleapis.com",
    variable="CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER",
)
STORAGE: Final = Api(title="Cloud Storage", name="storage.googleapis.com", variable="STORAGE_EMULATOR_HOST")
PUBSUB: Final = Api(title="Pub/Sub", name="pubsub.googleapis.com", variable="PUBSUB_EMULATOR_HOST")
