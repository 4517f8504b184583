"""Suggested commands about a job, which work as they are."""

from taskfleet.invocation import poe
from taskfleet.settings.reader import Configuration


def command_for(configuration: Configuration, command: str) -> str:
    """Return a command about a job as the user would type it; it names the job if only a script does, as in ``flow("NAME")``.

    Args:
        configuration: The settings of the job.
        command: As for ``invocation.poe``.
    """
    name, _, rest = command.partition(" ")
    is_named_by_script = configuration.places.get("JOB_ID", "").startswith("the keyword")
    job = f"--job-id {configuration.settings.job_id}" if is_named_by_script else ""
    return poe(" ".join(filter(None, [name, job, rest])))
