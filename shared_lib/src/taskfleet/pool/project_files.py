"""The files of a project that machines get."""

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from taskfleet.pool.manifest import MANIFEST

#: Packed even if git ignores them: a worker needs them.
_NEEDED = ("pyproject.toml", "uv.lock", "config/*.env")
_EXCLUDED_FOLDERS = {
    *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".tox", ".nox", ".direnv"),
    *(".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints", ".cache", ".idea", ".vscode"),
}
_EXCLUDED_FILES = re.compile(r".+\.py[co]|\.DS_Store|Thumbs\.db|\.coverage(?:\..+)?|.+\.sw[op]|.+~")
#: Top-level files and folders that jobs create.
_EXCLUDED_AT_TOP = re.compile(r"jobs|results(?:\..+)?")
_LIST = ("ls-files", "--cached", "--others", "--exclude-standard", "-z")


def project_files(project: Path, excluded: Sequence[Path]) -> list[str]:
    """Return the names of the files to pack, sorted by their bytes: those that git tracks or would add, and those that workers need.

    Args:
        project: The project's folder.
        excluded: Files and folders to leave out.
    """
    names = []
    for name in _listed(project):
        path = project / name
        if any(path == one or one in path.parents for one in excluded):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            names.append(name)
    return sorted(names, key=os.fsencode)


def _listed(project: Path) -> list[str]:
    """Return the files to pack, in any order."""
    found = _listed_by_git(project)
    names = set(_walked(project) if found is None else found)
    for pattern in _NEEDED:
        names.update(path.relative_to(project).as_posix() for path in project.glob(pattern) if path.is_file())
    return [name for name in names if not _is_excluded(name)]


def _is_excluded(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        bool(_EXCLUDED_FOLDERS.intersection(parts[:-1]))
        or any(part.endswith(".egg-info") for part in parts[:-1])
        or _EXCLUDED_FILES.fullmatch(parts[-1]) is not None
        or _EXCLUDED_AT_TOP.fullmatch(parts[0]) is not None
        or name == MANIFEST
    )


def _listed_by_git(project: Path) -> list[str] | None:
    """Return the files that git tracks or would add; None if git is not installed."""
    inside = _git(project, "rev-parse", "--is-inside-work-tree")
    if inside is None:
        return None
    if inside.strip() == b"true" and not _git(project, "check-ignore", "."):
        return _with_repositories(project, _git(project, *_LIST))
    # in an empty repository, so that .gitignore applies
    with tempfile.TemporaryDirectory(prefix="taskfleet-git-") as scratch:
        _git(project, "init", "-q", "--bare", scratch)
        return _with_repositories(project, _git(project, f"--git-dir={scratch}", f"--work-tree={project}", *_LIST))


def _with_repositories(project: Path, output: bytes | None) -> list[str] | None:
    """Split the output of git, and expand nested repositories (submodules), of which it contains only the folder."""
    if output is None:
        return None
    names = []
    for raw in filter(None, output.split(b"\0")):
        name = os.fsdecode(raw).rstrip("/")
        path = project / name
        if path.is_dir() and not path.is_symlink():
            names += [f"{name}/{inner}" for inner in _listed_by_git(path) or ()]
        elif os.path.lexists(path):  # a deleted file can still be in the index
            names.append(name)
    return names


def _git(folder: Path, *words: str) -> bytes | None:
    """Run git in a folder and return its output: empty if it fails, None if it is not installed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # allows folders of other users (mounted ones): nothing in them is run
    command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else b""


def _walked(project: Path) -> Iterator[str]:
    """Yield all files but those of virtual environments; used without git."""
    for folder, folders, files in os.walk(project):
        here = Path(folder)
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [
            name
            for name in folders
            if name not in linked and name not in _EXCLUDED_FOLDERS and not (here / name / "pyvenv.cfg").exists()
        ]
        for name in (*files, *linked):
            yield (here / name).relative_to(project).as_posix()
