"""The services of Google Cloud that are used: what they are called and where they are."""

import os
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A service."""

    title: str
    """For people."""
    name: str
    """As ``gcloud services enable`` takes it."""
    variable: str
    """The environment variable with which it is pointed elsewhere: gcloud's, or an emulator's."""

    def endpoint(self, given: str | None = None) -> str:
        """Return scheme and host of where it is.

        Args:
            given: Where, if not where the variable says, or at Google. A path is left out: gcloud's variables have one.
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
