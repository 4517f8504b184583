"""The project's code as a bundle: a tar file, gzipped, that is named by the hash of what is in it.

The same files give the same name on every machine and at any time; so what is in the bucket already is not sent again, and a worker can
tell whether it runs the job's code. The name is the hash of the list of files that travels in the bundle (``manifest``), since what tar
and gzip make of the same files depends on their versions.
"""

import gzip
import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from taskfleet.errors import BundleError
from taskfleet.pool.buckets import open_bucket
from taskfleet.pool.manifest import MANIFEST, FileKind, bundle_hash, manifest_line
from taskfleet.pool.secrets import is_secret_file, secret_in_variable

#: A bundle of more than that is a mistake, or data that belongs elsewhere.
MOST_MIB = 200.0
_SUFFIX = ".tar.gz"
_NAME = re.compile(r"[0-9a-f]{64}\.tar\.gz")
#: In a bucket's folder there is a folder of this name, with one for each job.
_FOLDER = "taskfleet-bundles"
_MIB = 1 << 20
#: 2000-01-01, since some tools refuse files that are older than 1980.
_FIXED_TIME = 946_684_800
#: Packed also where git ignores them: without these no worker starts.
_NEEDED = ("pyproject.toml", "uv.lock", "config/*.env")
_NEVER_FOLDERS = {
    *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".nox", ".direnv"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints", ".cache", ".idea", ".vscode"),
}
_NEVER_FILES = re.compile(r".+\.py[co]|\.DS_Store|Thumbs\.db|\.coverage(?:\..+)?|.+\.sw[op]|.+~")
#: At the top: what a job has made.
_NEVER_AT_TOP = re.compile(r"jobs|results(?:\..+)?")
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A packed project."""

    hash: str
    """Of its list of files, SHA-256 in hexadecimal: what a worker knows its code by (TASKFLEET_BUNDLE)."""
    path: Path
    size_bytes: int
    """Of the gzipped file."""
    files: int
    left_out: tuple[str, ...]
    """Files that look like secrets and are therefore not in it; to be shown to the user."""

    @property
    def name(self) -> str:
        """The file's name in the bucket."""
        return f"{self.hash}{_SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBundle:
    """A bundle where machines get it."""

    address: str
    """``s3://`` or ``gs://``."""
    hash: str
    region: str | None = None
    """Of an S3 bucket; a request for it has to name that."""


def pack(project: Path, folder: Path, *, leave_out: Sequence[Path] = (), most_mib: float = MOST_MIB) -> Bundle:
    """Pack a project.

    Packed is what git knows or would add (``.gitignore`` holds also without a repository, if git is installed), but no caches, jobs and
    results. What looks like a secret is left out.

    Args:
        project: The project's folder.
        folder: Where to put the file; a bundle that is there already is made again.
        leave_out: Files and folders that are not packed either, such as the ledger.
        most_mib: More is refused, before compression.

    Raises:
        BundleError: ``uv.lock`` is missing or out of the project, a file cannot be read, a link leads out of the project, a file of
            settings has a secret in it, or it is too large.
    """
    project = project.resolve()
    _check_lock(project)
    excluded = [path.resolve() for path in leave_out]
    left_out: list[str] = []
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="taskfleet-bundle-") as scratch:
        packed = Path(scratch) / "bundle"
        names = _checked(project, _listed(project), excluded)
        _refuse_if_large(project, names, most_mib)
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
                if re.fullmatch(r"config/[^/]*\.env", name):
                    _refuse_secrets(name, content)
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
    """Put a bundle where the job's machines get it; nothing is sent if it is there.

    Args:
        bundle: From ``pack``.
        bucket: ``s3://bucket/folder`` or ``gs://bucket/folder``; the folder may be left out.
        job_id: Each job has its bundles in a folder of its own, so that the end of one takes nothing from another.
        provider: Whose machines get it, as in PROVIDER.

    Raises:
        WrongSettingError: The address does not fit the provider, or the bucket does not exist.
        ProviderError: A permission is missing, there is no login, or the service does not answer.
    """
    store = open_bucket(bucket, provider)
    key = f"{_job_folder(store.folder, job_id)}{bundle.name}"
    if not store.has(key):
        store.put(key, bundle.path)
    return StoredBundle(address=store.address(key), hash=bundle.hash, region=store.region())


def remove(bucket: str, *, job_id: str, provider: str) -> int:
    """Remove the job's bundles, and nothing else that is in the bucket.

    Returns:
        How many are still there: to be called again until that is 0.

    Raises:
        ProviderError: As ``upload``; a bucket that does not exist has no bundles.
    """
    store = open_bucket(bucket, provider)
    folder = _job_folder(store.folder, job_id)
    for key in _bundles(store.keys(folder), folder):
        store.delete(key)
    return len(_bundles(store.keys(folder), folder))


def _job_folder(folder: str, job_id: str) -> str:
    return f"{folder}{_FOLDER}/{job_id}/"


def _bundles(keys: Iterable[str], folder: str) -> list[str]:
    return [key for key in keys if _NAME.fullmatch(key.removeprefix(folder))]


# --- what is packed ---


def _listed(project: Path) -> list[str]:
    """Give the files that are the user's own, in any order."""
    found = _listed_by_git(project)
    names = set(_walked(project) if found is None else found)
    for pattern in _NEEDED:
        names.update(path.relative_to(project).as_posix() for path in project.glob(pattern) if path.is_file())
    return [name for name in names if not _is_never(name)]


def _is_never(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        bool(_NEVER_FOLDERS.intersection(parts[:-1]))
        or any(part.endswith(".egg-info") for part in parts[:-1])
        or _NEVER_FILES.fullmatch(parts[-1]) is not None
        or _NEVER_AT_TOP.fullmatch(parts[0]) is not None
        or name == MANIFEST
    )


def _listed_by_git(project: Path) -> list[str] | None:
    """Ask git what it tracks or would add; None if git is not installed."""
    inside = _git(project, "rev-parse", "--is-inside-work-tree")
    if inside is None:
        return None
    if inside.strip() == b"true" and not _git(project, "check-ignore", "."):
        return _with_repositories(project, _git(project, *_LIST))
    with tempfile.TemporaryDirectory(prefix="taskfleet-git-") as scratch:  # an empty repository, for .gitignore's sake
        _git(project, "init", "-q", "--bare", scratch)
        return _with_repositories(project, _git(project, f"--git-dir={scratch}", f"--work-tree={project}", *_LIST))


_LIST = ("ls-files", "--cached", "--others", "--exclude-standard", "-z")


def _with_repositories(project: Path, output: bytes | None) -> list[str] | None:
    """Split git's list; of repositories within the project (submodules) it has only the folder."""
    if output is None:
        return None
    names = []
    for raw in filter(None, output.split(b"\0")):
        name = os.fsdecode(raw).rstrip("/")
        path = project / name
        if path.is_dir() and not path.is_symlink():
            names += [f"{name}/{inner}" for inner in _listed_by_git(path) or ()]
        elif os.path.lexists(path):  # it may be deleted and still be in the index
            names.append(name)
    return names


def _git(folder: Path, *words: str) -> bytes | None:
    """Run git in a folder; empty if it refuses, None if it is not there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # another user's folder (a mounted one) is listed all the same: nothing of it is run
    command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else b""


def _walked(project: Path) -> Iterator[str]:
    """Give all files but those of virtual environments: for want of git."""
    for folder, folders, files in os.walk(project):
        here = Path(folder)
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [
            name
            for name in folders
            if name not in linked and name not in _NEVER_FOLDERS and not (here / name / "pyvenv.cfg").exists()
        ]
        for name in (*files, *linked):
            yield (here / name).relative_to(project).as_posix()


def _checked(project: Path, names: Iterable[str], excluded: Sequence[Path]) -> list[str]:
    """Sort the names by their bytes; leave out what is excluded and what is no file."""
    kept = []
    for name in names:
        path = project / name
        if any(path == one or one in path.parents for one in excluded):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            kept.append(name)
    return sorted(kept, key=os.fsencode)


def _read(project: Path, name: str) -> tuple[FileKind, bytes]:
    """Return what a file is and its content; of a link, where it leads."""
    path = project / name
    if path.is_symlink():
        target = os.readlink(path)
        if os.path.isabs(target) or not path.resolve().is_relative_to(project):
            raise BundleError(
                f"{name} is a link to {target}, out of the project, where machines have nothing. Put the file itself there, or name the "
                "link in .gitignore."
            )
        return FileKind.LINK, os.fsencode(target)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}), so the project cannot be packed. Give it back to yourself, or name it in "
            ".gitignore."
        ) from error
    return FileKind.PROGRAM if path.stat().st_mode & stat.S_IXUSR else FileKind.FILE, content


def _add(tar: tarfile.TarFile, name: str, kind: FileKind, content: bytes) -> None:
    """Put a file into the archive, described by nothing but its name, its content and whether it is to be run."""
    entry = tarfile.TarInfo(name)
    entry.mtime = _FIXED_TIME
    if kind is FileKind.LINK:
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, os.fsdecode(content), 0o777
        tar.addfile(entry)
        return
    entry.mode = 0o755 if kind is FileKind.PROGRAM else 0o644
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _refuse_if_large(project: Path, names: Iterable[str], most_mib: float) -> None:
    sizes = {name: (project / name).lstat().st_size for name in names}
    total = sum(sizes.values())
    if total <= most_mib * _MIB:
        return
    biggest = sorted(sizes.items(), key=lambda pair: -pair[1])[:_SHOWN]
    lines = [f"  {size / _MIB:8,.1f} MiB  {name}" for name, size in biggest]
    raise BundleError(
        f"The project in {project} has {total / _MIB:,.0f} MiB, more than the {most_mib:g} MiB of a bundle. Name what machines do not need "
        "in .gitignore; put data into a bucket that tasks read from. The biggest files:\n" + "\n".join(lines)
    )


def _refuse_secrets(name: str, content: bytes) -> None:
    """Look at each line of a file of settings: it goes to the machines, and stays in the bucket."""
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        found = re.match(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", line)
        why = secret_in_variable(found[1], found[2].strip().strip("'\"")) if found else None
        if found and why:
            raise BundleError(
                f"{name}, line {number}: {found[1]} would travel to the machines in a bundle, and {why}. Take it out: machines have a role "
                "(INSTANCE_PROFILE, SERVICE_ACCOUNT), and a script in BEFORE_WORKER can fetch a secret from where it is kept."
            )


def _check_lock(project: Path) -> None:
    """See that machines can install what the project needs."""
    if not (project / "pyproject.toml").is_file():
        raise BundleError(f"There is no pyproject.toml in {project}: that is no project's folder.")
    lock = project / "uv.lock"
    if not lock.is_file():
        raise BundleError(f"There is no uv.lock in {project}, which says what machines install. Make it: uv lock")
    try:
        packages = tomllib.loads(lock.read_text(encoding="utf-8")).get("package", [])
    except (OSError, ValueError) as error:
        raise BundleError(f"{lock} cannot be read ({error}). Make it again: uv lock") from error
    for package in packages:
        source = package.get("source", {})
        for kind in ("editable", "directory", "path", "virtual"):
            with suppress(TypeError):
                path = os.path.normpath(source[kind]) if kind in source else ""
                if path.startswith("..") or os.path.isabs(path):
                    raise BundleError(
                        f"The project depends on {package.get('name')} in {source[kind]}, out of its folder, which machines do not "
                        "get. Move it into the project, and run uv lock."
                    )
