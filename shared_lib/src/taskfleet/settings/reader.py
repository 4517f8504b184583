"""The one reader of settings: command line before environment before file before default.

A file holds ``NAME=value`` lines for settings, of which every one must be known, and ``export NAME=value`` lines for what is the user's
own: those are put into the environment of the tasks. Nothing is expanded in values. All faults are reported at once.
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dotenv.parser import parse_stream

from taskfleet.errors import SettingsError
from taskfleet.settings.declaring import Field
from taskfleet.settings.describing import describe
from taskfleet.settings.fields import Settings
from taskfleet.settings.pool_fields import PoolSettings
from taskfleet.settings.provider_fields import PROVIDER_SETTINGS

T = TypeVar("T")

DEFAULT_FILE = "config/task.env"
#: Read besides, if it is there.
POOL_FILE = "config/pool.env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A text for a setting and where it stands."""

    value: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What a command runs with."""

    settings: Settings
    pool: PoolSettings
    of_providers: Mapping[type, Any]
    """The settings that only one provider has, by their class; see ``of``."""
    project: Path
    """The project's folder, absolute; relative paths in the file start here."""
    exports: dict[str, str]
    """The user's own variables for the tasks; those of the environment come first."""
    pool_exports: dict[str, str]
    """Those of them that stand in ``config/pool.env``."""
    places: dict[str, str]
    """For each setting that is not the default, by upper-case name: where it was set."""
    texts: dict[str, str]
    """For each of these: its text, which means the same in the environment of another process."""

    def of(self, kind: type[T]) -> T:
        """Return the settings of one of the classes in ``provider_fields``, whichever provider is chosen."""
        settings: T = self.of_providers[kind]
        return settings

    def values(self) -> dict[str, object]:
        """Return the value of every setting by its upper-case name, in the order in which they are shown."""
        kinds = (self.settings, self.pool, *self.of_providers.values())
        return {
            field.name: next(getattr(one, field.name.lower()) for one in kinds if hasattr(one, field.name.lower()))
            for field in describe()
        }

    @property
    def ledger_path(self) -> Path:
        """The ledger's file, absolute."""
        settings = self.settings
        path = settings.ledger_path.replace("{job_id}", settings.job_id)
        if settings.queue_url.startswith("fq://"):  # python-task-queue's file queue: a folder of our own ledger instead
            path = f"{settings.queue_url.removeprefix('fq://')}/{settings.job_id}.db"
        return self.project / Path(path).expanduser()


def find_project(start: Path) -> Path:
    """Give the nearest folder from ``start`` upwards that has ``config/task.env``, ``start`` itself if there is none."""
    for folder in (start, *start.parents):
        if (folder / DEFAULT_FILE).is_file():
            return folder
    return start


def read_configuration(
    *,
    flags: Mapping[str, str] | None = None,
    keywords: Mapping[str, str] | None = None,
    env_file: str | None,
    environ: Mapping[str, str] = os.environ,
    start: Path | None = None,
    needs_file: bool = True,
) -> Configuration:
    """Read all settings.

    Args:
        flags: Texts from the command line by upper-case name; relative paths among them start in the user's folder.
        keywords: The same from a Python call.
        env_file: The file to read instead of ``config/task.env``: looked for in the user's folder, then in the project's.
        environ: The environment.
        start: Where to look for the project; the current folder if None.
        needs_file: Whether ``config/task.env`` has to exist.

    Raises:
        SettingsError: The file is missing, or any setting is unknown, given twice under two names, or wrong; all faults in one text.
    """
    project = find_project((start or Path.cwd()).resolve())
    users_folder = Path(environ.get("POE_PWD") or Path.cwd())
    path = _find_file(env_file, users_folder, project, needs_file=needs_file)
    fields = {field.name: field for field in describe()}
    faults: list[str] = []
    given: dict[str, Given] = {}
    exports: dict[str, str] = {}
    pool_exports: dict[str, str] = {}
    pool_file = project / POOL_FILE
    files = [] if path is None else [path]
    if pool_file.is_file() and not (path is not None and path.samefile(pool_file)):
        files.insert(0, pool_file)
    for each in files:
        in_file, more_exports = _read_file(each, fields, faults)
        _take(given, in_file, fields, faults)
        exports |= more_exports
        if each == pool_file:
            pool_exports = more_exports
    from_environment = {
        name: Given(value=environ[name], place="the environment") for name in _all_names(fields) if environ.get(name)
    }
    _take(given, from_environment, fields, faults)
    for of_call, texts in ((True, keywords or {}), (False, flags or {})):
        for name, value in texts.items():
            field = fields[name]
            text = _in_folder(value, users_folder) if field.is_path else value
            place = f"the keyword {name.lower()}" if of_call else f"the command line ({field.flag})"
            given[name] = Given(value=text, place=place)
    values: dict[str, Any] = {}
    for name, one in given.items():
        field = fields[name]
        try:
            values[name.lower()] = field.parse(one.value if one.value else field.default)
        except ValueError as error:
            faults.append(f"{name}={one.value!r} in {one.place}: {name} is {error}")
    if faults:
        raise SettingsError("The settings are wrong:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return Configuration(
        settings=_made(Settings, values),
        pool=_made(PoolSettings, values),
        of_providers={kind: _made(kind, values) for kind in PROVIDER_SETTINGS},
        project=project,
        exports=exports,
        pool_exports=pool_exports,
        places={name: one.place for name, one in given.items()},
        texts={name: one.value for name, one in given.items()},
    )


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make the settings of one class from the values that are given; the others have their defaults."""
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values})  # type: ignore[arg-type]


def _find_file(env_file: str | None, users_folder: Path, project: Path, *, needs_file: bool) -> Path | None:
    if env_file is None:
        path = project / DEFAULT_FILE
        if not path.is_file():
            if not needs_file:
                return None
            raise SettingsError(
                f"There is no {DEFAULT_FILE} in {project} or above it. Go to the project's folder, or name a file with -e FILE."
            )
        return path
    candidates = [users_folder / env_file, project / env_file]
    for path in candidates:
        if path.is_file():
            return path
    raise SettingsError(
        f"-e {env_file}: there is no such file (looked for {' and '.join(dict.fromkeys(map(str, candidates)))})."
    )


def _read_file(path: Path, fields: Mapping[str, Field], faults: list[str]) -> tuple[dict[str, Given], dict[str, str]]:
    settings: dict[str, Given] = {}
    exports: dict[str, str] = {}
    known = _all_names(fields)
    try:
        stream = path.open(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    with stream:
        try:
            bindings = list(parse_stream(stream))
        except UnicodeDecodeError as error:
            raise SettingsError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    for binding in bindings:
        before = re.match(r"\s*", binding.original.string)[0]  # type: ignore[index]
        line = binding.original.line + before.count("\n")
        place = f"{path}, line {line}"
        name = binding.key
        if binding.error or (name is not None and binding.value is None):
            faults.append(f"{place}: {binding.original.string.strip()!r} is not of the form NAME=value")
        elif name is None:
            continue
        elif re.match(r"\s*export\s", binding.original.string):
            if name in known:
                faults.append(f"{place}: {name} is a setting: write it without 'export'")
            exports[name] = binding.value or ""
        elif name not in known:
            faults.append(
                f"{place}: unknown setting {name}.{did_you_mean(name.upper(), known)} For a variable of your own: export {name}=…"
            )
        elif name in settings:
            faults.append(f"{place}: {name} is set a second time (first in {settings[name].place})")
        else:
            settings[name] = Given(value=binding.value or "", place=place)
    return settings, exports


def _take(given: dict[str, Given], found: Mapping[str, Given], fields: Mapping[str, Field], faults: list[str]) -> None:
    """Let what was found in one place take precedence over what is given, old names translated."""
    for field in fields.values():
        ours = found.get(field.name)
        for old, translate in field.old_names.items():
            if old not in found:
                continue
            if ours is not None:
                faults.append(f"{field.name} and its older name {old} are both set in {found[old].place}: keep one")
            else:
                ours = Given(
                    value=translate(found[old].value) if found[old].value else "", place=f"{found[old].place} ({old})"
                )
        if ours is not None and (ours.value or field.name not in given):
            given[field.name] = ours


def _all_names(fields: Mapping[str, Field]) -> list[str]:
    return [*fields, *(old for field in fields.values() for old in field.old_names)]


def did_you_mean(name: str, known: list[str]) -> str:
    """Return a sentence that names the most similar of the known names, with a space before it; empty if none is similar."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f" Did you mean {close[0]}?" if close else ""


def is_reference(value: str) -> bool:
    """Whether a text is ``module:name`` and not an address or a path."""
    return re.fullmatch(r"[A-Za-z_][\w.]+:[A-Za-z_]\w*", value) is not None


def _in_folder(value: str, folder: Path) -> str:
    """Anchor a relative local path from the command line; addresses and ``module:function`` stay."""
    if not value or "://" in value or is_reference(value):
        return value
    return str(folder / Path(value).expanduser())
