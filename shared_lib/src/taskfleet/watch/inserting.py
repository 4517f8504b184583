"""The progress of an insertion on a terminal."""

import sys

from taskfleet.processes.identity import pid_of
from taskfleet.watch.bar import Bar


class InsertingDisplay(Bar):
    """Shows the rows read so far and the time left."""

    def __init__(self) -> None:
        super().__init__("Inserting", "row")

    def waits_for(self, process: str) -> None:
        """Print that another process inserts into the same job and has to finish first."""
        print(f"Waiting for another insertion into this job to finish (process {pid_of(process)}).", file=sys.stderr)
