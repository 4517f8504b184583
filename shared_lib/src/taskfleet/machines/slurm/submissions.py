"""The files of a pool's submissions, in a folder beside the ledger that the nodes share.

Each launch request has ``TOKEN.sh``, the script; ``TOKEN.env``, its environment, which may have secrets; and ``TOKEN.job``, the ID of its
job array once it is known, and the number of its machines. ``JOB_INDEX.out`` is what a machine printed, ``RUN.nodes`` has the nodes on
which machines ended at once; for other files of machines without a controller, see ``script``. The script is written before it is
submitted, so that a request that is carried out again after its answer was lost is known to be one.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from taskfleet.errors import ProviderError
from taskfleet.files import make_private_folder, open_private, write_atomically
from taskfleet.machines.shared_files import read_console

#: Where in the output of a machine its script's own lines are: at the beginning, and at the end.
_LINES_BYTES = 4 << 10
_BEGAN = re.compile(rb"^\[taskfleet\] began (\d{1,12})$", re.MULTILINE)
_ENDED = re.compile(rb"^\[taskfleet\] ended (\d{1,12}) (\d{1,3})$", re.MULTILINE)
_INSTANCE = re.compile(r"(\d{1,18})_(\d{1,9})")


def job_of(instance_id: str) -> str | None:
    """Return the job array of a machine; None if this is not the ID of one."""
    found = _INSTANCE.fullmatch(instance_id)
    return found[1] if found and found[0].isascii() else None


class Submissions:
    """The files of the requests with a prefix.

    Args:
        folder: The folder; it need not exist.
        run: The prefix of the requests' tokens.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder
        self._run = run

    def path(self, name: str) -> Path:
        """Return the path of a file."""
        return self._folder / name

    def begin(self, token: str, script: str, environment: str) -> bool:
        """Write the files of a request; return whether it is new.

        Raises:
            ProviderError: They cannot be written.
        """
        try:
            make_private_folder(self._folder)
            with suppress(FileExistsError), open(self.path(f"{token}.sh"), "x", opener=open_private) as file:
                file.write(script)
                write_atomically(self.path(f"{token}.env"), environment)
                return True
        except OSError as error:
            raise ProviderError(f"The files of a batch job cannot be written to {self._folder}: {error}.") from error
        return False

    def set_job(self, token: str, job_id: str, number: int) -> None:
        """Record the job array of a request, and its number of machines."""
        with suppress(OSError):  # the script records it too, and squeue knows it
            write_atomically(self.path(f"{token}.job"), f"{job_id} {number}")

    def forget(self, token: str) -> None:
        """Delete the files of a request that was rejected."""
        for path in self._folder.glob(f"{token}.*"):
            path.unlink(missing_ok=True)

    def jobs(self) -> dict[str, tuple[str, int]]:
        """Return the ID of the job array of each request, and its number of machines, by the requests' tokens."""
        found: dict[str, tuple[str, int]] = {}
        for path in self._glob("*.job"):
            with suppress(OSError, UnicodeDecodeError):
                job_id, _, number = path.read_text(encoding="ascii").strip().partition(" ")
                if job_id.isdecimal():
                    found[path.stem] = job_id, int(number) if number.isdecimal() else 0
        return found

    def times(self, instance_id: str) -> tuple[float | None, tuple[float, int] | None]:
        """Return when a machine began, and when it ended with which exit code, as far as its script printed it."""
        try:
            with self.path(f"{instance_id}.out").open("rb") as file:
                first = file.read(_LINES_BYTES)
                file.seek(max(0, file.seek(0, os.SEEK_END) - _LINES_BYTES))
                last = file.read()
        except OSError:
            return None, None
        began, ended = _BEGAN.search(first), [*_ENDED.finditer(last)]
        return float(began[1]) if began else None, (float(ended[-1][1]), int(ended[-1][2])) if ended else None

    def note_quick_end(self, node: str, instance_id: str) -> None:
        """Record that a machine ended at once on a node, for this controller and the next."""
        with suppress(OSError), open(self.path(f"{self._run}.nodes"), "a", opener=open_private) as file:
            file.write(f"{node} {instance_id}\n")

    def quick_ends(self) -> dict[str, set[str]]:
        """Return the machines that ended at once, by their node."""
        found: dict[str, set[str]] = {}
        with suppress(OSError):
            for line in self.path(f"{self._run}.nodes").read_text(errors="replace").splitlines():
                node, _, instance_id = line.partition(" ")
                found.setdefault(node, set()).add(instance_id)
        return found

    def console(self, instance_id: str) -> str | None:
        """Return what a machine printed; empty if it has not started; None if there is no such machine.

        Raises:
            UnreachableError: Its file cannot be read.
        """
        job_id = job_of(instance_id)
        if job_id is None or job_id not in {one for one, _ in self.jobs().values()}:
            return None
        return read_console(self.path(f"{instance_id}.out"), instance_id)

    def has_run(self, instance_id: str) -> bool:
        """Return whether a machine has started to run: Slurm makes the file of its output then."""
        return self.path(f"{instance_id}.out").exists()

    def clear(self, existing: Iterable[str]) -> int:
        """Delete the files of requests without machines that exist; return how many files are left.

        Args:
            existing: The IDs of the machines that exist.
        """
        kept = {job_of(one) for one in existing}
        for token, (job_id, _) in self.jobs().items():
            if job_id in kept:
                continue
            leading = self.path(f"{token}.job")  # to the others, so it is the last
            for path in [*self._folder.glob(f"{job_id}_*.out"), *self._folder.glob(f"{token}.*")]:
                if path != leading:
                    path.unlink(missing_ok=True)
            leading.unlink(missing_ok=True)
        if not kept:
            for path in self._glob("*"):  # never submitted, or of all requests
                path.unlink(missing_ok=True)
        left = len([*self._glob("*.job"), *self._glob("*.sh")])
        with suppress(OSError):  # not empty
            self._folder.rmdir()
        return left

    def _glob(self, pattern: str) -> list[Path]:
        return sorted(path for path in self._folder.glob(pattern) if path.name.startswith(self._run))
