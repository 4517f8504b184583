"""Bundles: the project's code as a gzipped tar file that is named by the hash of its content.

The same files give the same name on every computer and at any time. So a bundle that is in the bucket already is not uploaded again, and a
worker can verify that it runs the job's code. The name is the hash of the manifest in the bundle (``manifest``), not of the archive,
because the output of tar and gzip depends on their versions.
"""

import gzip
import io
import logging
import os
import re
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from taskfleet.clouds.object_stores import ObjectStore, open_store
from taskfleet.errors import BundleError, WrongSettingError
from taskfleet.machines.provider import load_provider
from taskfleet.outputs import BUCKETS
from taskfleet.pool.manifest import MANIFEST, FileKind, bundle_hash, manifest_line
from taskfleet.pool.project_files import project_files
from taskfleet.pool.worker_packages import read_lock
from taskfleet.redaction import is_secret_file, secret_in_variable

logger = logging.getLogger(__name__)

#: The maximum size before compression. A larger project contains data that belongs into a bucket.
MAX_MIB = 200.0
_SUFFIX = ".tar.gz"
_NAME = re.compile(r"[0-9a-f]{64}\.tar\.gz")
#: The folder in a bucket that has a folder for each job.
_FOLDER = "taskfleet-bundles"
_MIB = 1 << 20
#: 2000-01-01: some tools reject files from before 1980.
_FIXED_TIME = 946_684_800
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A packed project."""

    hash: str
    """SHA-256 of the manifest, in hexadecimal. Workers verify their code with it (TASKFLEET_BUNDLE)."""
    path: Path
    size_bytes: int
    """After compression."""
    files: int
    left_out: tuple[str, ...]
    """Files that look like secrets and were not packed; to be shown to the user."""

    @property
    def name(self) -> str:
        """The file's name in the bucket."""
        return f"{self.hash}{_SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBundle:
    """An uploaded bundle."""

    address: str
    """Begins with ``s3://`` or ``gs://``."""
    hash: str
    region: str | None = None
    """Of an S3 bucket; requests have to name it."""


def pack(
    project: Path, folder: Path, *, leave_out: Sequence[Path] = (), max_mib: float = MAX_MIB, is_private: bool = False
) -> Bundle:
    """Pack a project.

    Packs the files that git tracks or would add (``.gitignore`` applies also without a repository, if git is installed), without caches,
    jobs and results. Files that look like secrets are left out.

    Args:
        project: The project's folder.
        folder: The folder for the bundle; an existing bundle is overwritten.
        leave_out: Further files and folders to leave out, such as the ledger.
        max_mib: The maximum size before compression.
        is_private: Whether only the user will be able to read it, so that settings files may have secrets.

    Raises:
        BundleError: ``uv.lock`` is missing or names a path out of the project, a file cannot be read, a link leads out of the project, a
            settings file has a secret in it, or the project is too large.
    """
    project = project.resolve()
    _check_lock(project)
    excluded = [path.resolve() for path in leave_out]
    left_out: list[str] = []
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="taskfleet-bundle-") as scratch:
        packed = Path(scratch) / "bundle"
        names = project_files(project, excluded)
        _check_size(project, names, max_mib)
        with (
            open(packed, "wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name in names:
                kind, content = _read(project, name)
                if is_secret_file(name, b"" if kind is FileKind.LINK else content):
                    left_out.append(name)
                    continue
                if not is_private and re.fullmatch(r"config/[^/]*\.env", name):
                    _check_secrets(name, content)
                lines.append(manifest_line(name, kind, content))
                _add(tar, name, kind, content)
            manifest = "".join(lines).encode()
            _add(tar, MANIFEST, FileKind.FILE, manifest)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{bundle_hash(manifest)}{_SUFFIX}"
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            shutil.copyfile(packed, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return Bundle(
        hash=bundle_hash(manifest),
        path=path,
        size_bytes=path.stat().st_size,
        files=len(lines),
        left_out=tuple(left_out),
    )


def upload(bundle: Bundle, bucket: str, *, job_id: str, provider: str) -> StoredBundle:
    """Upload a bundle, unless it is in the bucket already.

    Args:
        bundle: From ``pack``.
        bucket: ``s3://bucket/folder`` or ``gs://bucket/folder``; the folder is optional.
        job_id: Each job has its own folder of bundles, so that removing them does not affect another job.
        provider: As in PROVIDER; its machines download the bundle.

    Raises:
        WrongSettingError: The provider's machines cannot read from such a bucket, or the bucket does not exist.
        ProviderError: A permission is missing, there is no login, or the service does not answer.
    """
    store = _open_store(bucket, provider)
    name = f"{_job_folder(job_id)}{bundle.name}"
    if store.exists(name):
        logger.info("bundle %s is in the bucket already", store.address(name))
    else:
        with bundle.path.open("rb") as file:
            store.put(name, file)
        logger.info("uploaded bundle %s: %d files, %d bytes", store.address(name), bundle.files, bundle.size_bytes)
    return StoredBundle(address=store.address(name), hash=bundle.hash, region=store.region())


def remove(bucket: str, *, job_id: str, provider: str) -> int:
    """Remove the job's bundles from a bucket.

    Returns:
        The number of remaining bundles. Call it again until that is 0.

    Raises:
        ProviderError: As ``upload``. A bucket that does not exist has no bundles.
    """
    store = _open_store(bucket, provider)
    for name in _bundles(store, job_id):
        store.delete(name)
        logger.info("deleted bundle %s", store.address(name))
    return len(_bundles(store, job_id))


def _open_store(bucket: str, provider: str) -> ObjectStore:
    scheme, wanted = bucket.strip().partition("://")[0], load_provider(provider).bucket_scheme
    if scheme in BUCKETS and scheme != wanted:
        raise WrongSettingError(
            f"BUCKET={bucket} does not match PROVIDER={provider}, whose machines have credentials for {wanted}:// only. Set "
            f"BUCKET={wanted}://bucket/folder.",
            setting="BUCKET",
        )
    return open_store(bucket)


def _job_folder(job_id: str) -> str:
    return f"{_FOLDER}/{job_id}/"


def _bundles(store: ObjectStore, job_id: str) -> list[str]:
    folder = _job_folder(job_id)
    return [name for name in store.names(folder) if _NAME.fullmatch(name.removeprefix(folder))]


def _read(project: Path, name: str) -> tuple[FileKind, bytes]:
    """Return the kind of a file and its content; for a link, its target."""
    path = project / name
    if path.is_symlink():
        target = os.readlink(path)
        if os.path.isabs(target) or not path.resolve().is_relative_to(project):
            raise BundleError(
                f"{name} is a link to {target}, which is not in the project, so machines would not get it. Copy the file "
                "into the project, or add the link to .gitignore."
            )
        return FileKind.LINK, os.fsencode(target)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}), so the project cannot be packed. Make it readable, or add it to "
            ".gitignore."
        ) from error
    return FileKind.PROGRAM if path.stat().st_mode & stat.S_IXUSR else FileKind.FILE, content


def _add(tar: tarfile.TarFile, name: str, kind: FileKind, content: bytes) -> None:
    """Add a file to the archive, with no metadata but its name and whether it is executable."""
    entry = tarfile.TarInfo(name)
    entry.mtime = _FIXED_TIME
    if kind is FileKind.LINK:
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.fsdecode(content), 0o777
        tar.addfile(entry)
        return
    entry.mode = 0o755 if kind is FileKind.PROGRAM else 0o644
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _check_size(project: Path, names: Iterable[str], max_mib: float) -> None:
    sizes = {name: (project / name).lstat().st_size for name in names}
    total = sum(sizes.values())
    if total <= max_mib * _MIB:
        return
    largest = sorted(sizes.items(), key=lambda pair: -pair[1])[:_SHOWN]
    lines = [f"  {size / _MIB:8,.1f} MiB  {name}" for name, size in largest]
    raise BundleError(
        f"The project in {project} has {total / _MIB:,.0f} MiB; a bundle can have at most {max_mib:g} MiB. Add files that machines do not "
        "need to .gitignore; put data into a bucket that tasks read from. The largest files:\n" + "\n".join(lines)
    )


def _check_secrets(name: str, content: bytes) -> None:
    """Reject a settings file with secrets: it would be readable on machines and in the bucket."""
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        found = re.match(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", line)
        reason = secret_in_variable(found[1], found[2].strip().strip("'\"")) if found else None
        if found and reason:
            raise BundleError(
                f"{name}, line {number}: {found[1]} would be sent to machines in a bundle, and {reason}. Remove it: machines have a role "
                "(INSTANCE_PROFILE, SERVICE_ACCOUNT), and a script in BEFORE_WORKER can fetch secrets from a secret store."
            )


def _check_lock(project: Path) -> None:
    """Check that machines can install the project's packages."""
    if not (project / "pyproject.toml").is_file():
        raise BundleError(f"There is no pyproject.toml in {project}: it is not the folder of a project.")
    for package in read_lock(project):
        source = package.get("source", {})
        for kind in ("editable", "directory", "path", "virtual"):
            with suppress(TypeError):
                path = os.path.normpath(source[kind]) if kind in source else ""
                if path.startswith("..") or os.path.isabs(path):
                    raise BundleError(
                        f"The project depends on {package.get('name')} in {source[kind]}, which is outside of its folder, so machines "
                        "would not get it. Move it into the project, and run uv lock."
                    )
