"""Conversions of the names and values that rms-cloud-tasks uses to settings; ``rms_config`` reads its configuration files."""

from collections.abc import Mapping

#: Of the names of all its variables.
PREFIX = "RMS_CLOUD_TASKS_"
#: Stands for "retry", which has no limit there. Nothing is retried for ever here.
MANY_RETRIES = "10"


def queue_url_in(variables: Mapping[str, str]) -> str:
    """Return the QUEUE_URL that its variables describe; empty if they describe none."""
    provider, queue, job_id, project_id = (
        variables.get(PREFIX + name, "") for name in ("PROVIDER", "QUEUE_NAME", "JOB_ID", "PROJECT_ID")
    )
    return queue_url(provider, queue or job_id, project_id=project_id)


def yes(text: str) -> bool:
    """Return whether a text means true there; everything else means false."""
    return text.strip().lower() in ("true", "1")


def retries(text: str) -> str:
    """Return the number of retries for a switch."""
    return MANY_RETRIES if yes(text) else "0"


def lower(text: str) -> str:
    """Return a text in lower case."""
    return text.lower()


def queue_url(provider: str, name: str, *, project_id: str = "", region: str = "") -> str:
    """Return the QUEUE_URL of a queue that is described by its provider and name; empty if that is not enough."""
    if not name:
        return ""
    if provider.lower() == "aws":
        return f"sqs://{name}?region={region}" if region else f"sqs://{name}"
    if provider.lower() == "gcp" and project_id:
        return f"pubsub://{project_id}/{name}"
    return ""
