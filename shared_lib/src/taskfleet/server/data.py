"""The data of a server: a folder on a local disk, and the file in which they are saved after its end."""

import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

from taskfleet.errors import CommandError
from taskfleet.files import open_private
from taskfleet.queues.own_server import NAME
from taskfleet.server.binaries import run_program, user_options

#: The local disk that keeps its files when the computer starts again, unlike /tmp.
LOCAL_DISK = Path("/var/tmp")
#: Only this role, only this database, and only with the password; nobody may log in as the owner of the data.
_ACCESS = f"""\
host {NAME} {NAME} 0.0.0.0/0 scram-sha-256
host {NAME} {NAME} ::/0 scram-sha-256
"""


def new_folder(parent: Path) -> Path:
    """Return a new folder for data, in which nobody else can write.

    Raises:
        CommandError: It cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="taskfleet-queue-", dir=parent))
        give_away(folder)
    except OSError as error:
        raise CommandError(
            f"The folder {parent} for the queue's data cannot be used: {error.strerror}. Choose another local disk with --data."
        ) from error
    return folder / "data"


def give_away(folder: Path) -> None:
    """Make a folder and all in it the property of the user whose processes the server is."""
    if options := user_options():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, options["user"], options["group"], follow_symlinks=False)


def initialize(data: Path, programs: Path, password: str) -> None:
    """Make the data of a server with an empty database.

    Raises:
        CommandError: A program fails.
    """
    options = ["--encoding=UTF8", "--locale=C", "--auth=reject", "--wal-segsize=4", "--no-instructions"]
    run_program([programs / "initdb", "--pgdata", data, "--username=owner", *options], folder=data.parent)
    statements = (
        f"CREATE ROLE {NAME} LOGIN PASSWORD '{password}'",
        f"CREATE DATABASE {NAME} OWNER {NAME}",
    )
    command: list[str | Path] = [
        programs / "postgres",
        "--single",
        "-c",
        "log_min_error_statement=panic",
        "-j",
        "-D",
        data,
        "postgres",
    ]
    # Not through the network, and not on a command line, which other users can read.
    text = run_program(command, text=";\n\n".join([*statements, ""]), folder=data.parent)
    if found := re.search(r"(?:ERROR|FATAL|PANIC):.*", text):
        raise CommandError(f"The queue's database cannot be made: {found[0]}")
    (data / "pg_hba.conf").write_text(_ACCESS, encoding="ascii")


def version_of(data: Path) -> int | None:
    """Return the version of PostgreSQL that made the data; None if there are none."""
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def is_inside(data: Path, folder: Path) -> bool:
    """Return whether the data are in the folder of the server's record, which other computers share."""
    return data.resolve().is_relative_to(folder.resolve())


def save(data: Path, file: Path) -> None:
    """Write the data of a server that has ended into a file, completely or not at all.

    Raises:
        CommandError: It cannot be written; the data stay where they are.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        with open(part, "wb", opener=open_private) as raw:
            with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=1) as archive:
                archive.add(data, arcname="data", filter=lambda one: None if one.name == "data/postmaster.pid" else one)
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CommandError(
            f"The queue's data cannot be saved to {file}: {error.strerror or error}. They are in {data}, and nothing is lost. Free some "
            "space and run the command again."
        ) from error


def restore(file: Path, data: Path) -> None:
    """Read data that were saved.

    Raises:
        CommandError: The file cannot be read, or the data cannot be written.
    """
    try:
        with tarfile.open(file) as archive:
            archive.extractall(data.parent, filter="data")
        data.chmod(0o700)
        give_away(data)
    except (OSError, tarfile.TarError) as error:
        shutil.rmtree(data.parent, ignore_errors=True)
        raise CommandError(f"The queue's data cannot be restored from {file}: {error}.") from error
