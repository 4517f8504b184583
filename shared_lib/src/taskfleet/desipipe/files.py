"""The place of desipipe's catalogue of files, which this library does not have."""

from typing import Any

from taskfleet.errors import UsageError


class FileManager:
    """Can be imported, because scripts do so whether they use it or not; it cannot be made."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Refuse.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            "taskfleet.desipipe has no FileManager. Pass the paths of files to tasks as arguments; docs/desipipe.md shows how."
        )
