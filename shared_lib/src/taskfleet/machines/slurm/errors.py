"""Slurm's refusals of jobs that other machines, or a later request, would not meet."""

import re
from typing import Final

from taskfleet.machines import FailureReason

_REASONS: Final = (
    (
        re.compile(
            r"QOS\w*(?:Max|Grp|Limit)|Assoc\w*(?:Max|Grp|Limit)|violates accounting|submit limit|MaxSubmit|maximum number of jobs|"
            r"job array specification|exceeds .*limit",
            re.IGNORECASE,
        ),
        FailureReason.QUOTA,
    ),
    (re.compile(r"node configuration|nodes? (?:are|is) busy|not available", re.IGNORECASE), FailureReason.INVALID),
)


def failure_of(text: str) -> FailureReason | None:
    """Return why Slurm refuses a job; None if the text is about something else."""
    return next((reason for pattern, reason in _REASONS if pattern.search(text)), None)


def is_submit_limit(text: str) -> bool:
    """Return whether Slurm refuses a job because of the number of jobs that it has already accepted."""
    return re.search(r"MaxSubmit|GrpSubmit|submit limit reached", text, re.IGNORECASE) is not None
