"""The files of a pool's submissions, in a folder beside the ledger that the nodes share.

Each launch request has ``TOKEN.sh``, the script; ``TOKEN.env``, its environment, which may have secrets; and ``TOKEN.job``, the ID of its
job array once it is known. ``JOB_INDEX.out`` is what a machine printed. The script is written before it is submitted, so that a request
that is carried out again after its answer was lost is known to be one.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from taskfleet.errors import ProviderError
from taskfleet.files import make_private_folder, open_private, write_atomically
from taskfleet.machines.shared_files import read_console

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

    def set_job(self, token: str, job_id: str) -> None:
        """Record the job array of a request."""
        with suppress(OSError):  # the script records it too, and squeue knows it
            write_atomically(self.path(f"{token}.job"), job_id)

    def forget(self, token: str) -> None:
        """Delete the files of a request that was rejected."""
        for suffix in ("sh", "env", "job"):
            self.path(f"{token}.{suffix}").unlink(missing_ok=True)

    def job_ids(self) -> dict[str, str]:
        """Return the IDs of the job arrays, by the requests' tokens."""
        found: dict[str, str] = {}
        for path in self._glob("*.job"):
            with suppress(OSError, UnicodeDecodeError):
                text = path.read_text(encoding="ascii").strip()
                if text.isdecimal():
                    found[path.stem] = text
        return found

    def console(self, instance_id: str) -> str | None:
        """Return what a machine printed; empty if it has not started; None if there is no such machine.

        Raises:
            UnreachableError: Its file cannot be read.
        """
        job_id = job_of(instance_id)
        if job_id is None or job_id not in self.job_ids().values():
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
        for token, job_id in self.job_ids().items():
            if job_id in kept:
                continue
            for path in [*self._folder.glob(f"{job_id}_*.out"), self.path(f"{token}.env"), self.path(f"{token}.sh")]:
                path.unlink(missing_ok=True)
            self.path(f"{token}.job").unlink(missing_ok=True)  # the last, since it leads to the others
        if not kept:
            for path in [*self._glob("*.sh"), *self._glob("*.env")]:  # never submitted
                path.unlink(missing_ok=True)
        left = len([*self._glob("*.job"), *self._glob("*.sh")])
        with suppress(OSError):  # not empty
            self._folder.rmdir()
        return left

    def _glob(self, pattern: str) -> list[Path]:
        return sorted(path for path in self._folder.glob(pattern) if path.name.startswith(self._run))
