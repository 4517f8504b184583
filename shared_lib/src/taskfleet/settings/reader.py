"""The reader of settings. The command line overrides the environment, which overrides the files, which override the defaults.

A file has ``NAME=value`` lines for settings, whose names must be known, and ``export NAME=value`` lines for variables of the user, which
are passed to the tasks in their environment. Values are not expanded. All errors are reported at once.
"""

import dataclasses
import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dotenv.parser import parse_stream

from taskfleet.errors import SettingsError
from taskfleet.settings.declaring import Field
from taskfleet.settings.describing import describe
from taskfleet.settings.fields import Settings
from taskfleet.settings.manager_files import manager_file, misplaced
from taskfleet.settings.manager_files import pool_file as pool_file_of
from taskfleet.settings.parsers import EMBEDDED, SERVER
from taskfleet.settings.pool_fields import PoolSettings
from taskfleet.settings.provider_fields import PROVIDER_SETTINGS
from taskfleet.settings.rms_config import DEFAULTS, SUFFIXES, read_rms_config
from taskfleet.settings.rms_names import PREFIX, queue_url_in

T = TypeVar("T")

DEFAULT_FILE = "config/task.env"
#: Read in addition, if it exists.
POOL_FILE = "config/pool.env"
#: The names of the variables that another process of the job has from its files: the file of a manager overrides them.
FROM_FILES_VARIABLE = "TASKFLEET_FROM_FILES"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedText:
    """The text of a setting and the place that it was read from."""

    value: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The settings and variables that a command runs with."""

    settings: Settings
    pool: PoolSettings
    of_providers: Mapping[type, Any]
    """The settings of single providers, by their class; see ``of``."""
    project: Path
    """The project's folder, absolute; relative paths in the files are relative to it."""
    exports: dict[str, str]
    """The user's own variables for the tasks, from the files; the environment overrides them."""
    pool_exports: dict[str, str]
    """Those of ``config/pool.env``."""
    places: dict[str, str]
    """Where each setting was set, by upper-case name; settings that were not set are missing."""
    texts: dict[str, str]
    """The text of each of these settings, which is valid in the environment of another process too."""
    from_files: frozenset[str] = frozenset()
    """The names of those that files have, and neither the environment, a keyword nor a flag."""
    manager: str = ""
    """The manager whose tasks these settings are for; empty for the default one."""
    of_manager: Callable[[str], "Configuration"] = dataclasses.field(compare=False, repr=False)
    """Returns the settings for the tasks of another manager; raises SettingsError if it has no file, or the file is invalid."""

    def of(self, kind: type[T]) -> T:
        """Return the settings of one of the classes in ``provider_fields``, whatever PROVIDER is."""
        settings: T = self.of_providers[kind]
        return settings

    def values(self) -> dict[str, object]:
        """Return the value of every setting by its upper-case name, in display order."""
        kinds = (self.settings, self.pool, *self.of_providers.values())
        return {
            field.name: next(getattr(one, field.name.lower()) for one in kinds if hasattr(one, field.name.lower()))
            for field in describe()
        }

    @property
    def ledger_path(self) -> Path:
        """The absolute path of the ledger."""
        settings = self.settings
        path = settings.ledger_path.replace("{job_id}", settings.job_id)
        if settings.queue_url.startswith(
            "fq://"
        ):  # the file queue of python-task-queue: its folder holds the ledger instead
            path = f"{settings.queue_url.removeprefix('fq://')}/{settings.job_id}.db"
        return self.project / Path(path).expanduser()

    @property
    def server_folder(self) -> Path:
        """The folder of the project's own PostgreSQL server, beside the ledgers."""
        return self.ledger_path.parent / "queue_server"

    @property
    def results_beside_ledger(self) -> Path:
        """The folder for large values of graph tasks if there is neither a setting nor a service queue."""
        return self.ledger_path.with_suffix(".results")

    @property
    def results_path(self) -> str:
        """The folder or bucket for large values of graph tasks.

        It is RESULTS_PATH, or a folder beside the ledger; for a service queue, whose workers are elsewhere, a folder in BUCKET. Empty if
        there is none.
        """
        given, queue_url = self.settings.results_path, self.settings.queue_url
        if given is None and queue_url != SERVER and not EMBEDDED.fullmatch(queue_url):
            bucket = self.pool.bucket
            return f"{bucket.rstrip('/')}/{self.settings.job_id}/results" if bucket else ""
        if given is None:
            return str(self.results_beside_ledger)
        return given if "://" in given else str(self.project / Path(given).expanduser())


def find_project(start: Path) -> Path:
    """Return the nearest folder, from ``start`` upwards, with a ``config/task.env``; ``start`` itself if there is none."""
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
    manager: str = "",
) -> Configuration:
    """Read all settings.

    Args:
        flags: Texts from the command line, by upper-case name; relative paths are relative to the user's folder.
        keywords: Texts from a Python call, likewise; flags override them.
        env_file: The file to read instead of ``config/task.env``; searched in the user's folder, then in the project.
        environ: The environment.
        start: The folder from which to search for the project; the current folder if None.
        needs_file: Whether ``config/task.env`` must exist.
        manager: The manager whose files override the other files; empty for the default one, which has none.

    Raises:
        SettingsError: A file is missing, or settings are unknown, invalid or set twice; one message has all errors.
    """
    project = find_project((start or Path.cwd()).resolve())
    users_folder = Path(environ.get("POE_PWD") or Path.cwd())
    path = _find_file(env_file, users_folder, project, needs_file=needs_file)
    files = [] if path is None else [path]
    pool_file = project / POOL_FILE
    if pool_file.is_file() and not (path is not None and path.samefile(pool_file)):
        files.insert(0, pool_file)
    own_files = [manager_file(project, manager)] if manager else []
    own_files += [found] if (found := pool_file_of(project, manager)) else []
    files += own_files
    fields = {field.name: field for field in describe()}
    errors: list[str] = []
    given: dict[str, SourcedText] = {}
    exports: dict[Path, dict[str, str]] = {}
    from_environment: dict[str, SourcedText] = {}
    in_environment = {
        name: SourcedText(value=environ[name], place="the environment")
        for name in _all_names(fields)
        if environ.get(name)
    }
    _merge(from_environment, in_environment, fields, errors)
    if url := queue_url_in(environ):  # after the aliases of QUEUE_URL, which override it
        place = f"the environment ({PREFIX}PROVIDER and the names of the job or the queue)"
        from_environment.setdefault("QUEUE_URL", SourcedText(value=url, place=place))
    inherited = {
        name: from_environment[name]
        for name in environ.get(FROM_FILES_VARIABLE, "").split()
        if name in from_environment
    }
    above = {name: one.value for name, one in from_environment.items()} | dict(keywords or {}) | dict(flags or {})
    if path is not None and path.suffix in SUFFIXES:
        given |= {
            name: SourcedText(value=text, place=f"{path} (default of rms-cloud-tasks)")
            for name, text in DEFAULTS.items()
        }
    of_manager: dict[str, SourcedText] = {}
    for file in files:
        if file.suffix in SUFFIXES:
            content = read_rms_config(file, fields, above)
            errors += content.errors
            exports[file] = {}
            in_file = {
                name: SourcedText(value=text, place=f"{file}: {key}") for name, (text, key) in content.settings.items()
            }
        else:
            in_file, exports[file] = _read_file(file, fields, errors)
        if file not in own_files:
            _merge(given, in_file, fields, errors)
            continue
        own: dict[str, SourcedText] = {}
        _merge(own, in_file, fields, errors)
        errors += [f"{own[name].place}: {name} {what}" for name, what in misplaced(file, own, fields).items()]
        of_manager |= own
    given |= inherited | of_manager  # of which an empty text stands for the default, whatever the other files have
    from_environment = {name: one for name, one in from_environment.items() if name not in inherited}
    given |= from_environment
    from_files = given.keys() - {*from_environment, *(keywords or {}), *(flags or {})}
    for texts, is_call in ((keywords or {}, True), (flags or {}, False)):
        for name, value in texts.items():
            field = fields[name]
            text = _in_folder(value, users_folder) if field.is_path else value
            place = f"the keyword {name.lower()}" if is_call else f"the command line ({field.flag})"
            given[name] = SourcedText(value=text, place=place)
    values = _parse(given, fields, errors)
    if values.get("max_concurrent_tasks") and not EMBEDDED.fullmatch(values.get("queue_url", "ledger")):
        errors.append(
            f"{given['MAX_CONCURRENT_TASKS'].place}: MAX_CONCURRENT_TASKS needs QUEUE_URL=ledger, because workers of a service queue do "
            "not know of each other. Remove it, and limit the workers: their number (MACHINES) times SLOTS"
        )
    environ_then = {**environ, "POE_PWD": str(users_folder)}
    if errors:
        raise SettingsError("Invalid settings:\n" + "\n".join(f"  - {error}" for error in errors))
    return Configuration(
        settings=_build(Settings, values),
        pool=_build(PoolSettings, values),
        of_providers={kind: _build(kind, values) for kind in PROVIDER_SETTINGS},
        project=project,
        exports={name: value for file in files for name, value in exports[file].items()},
        pool_exports=exports.get(pool_file, {}),
        places={name: one.place for name, one in given.items()},
        texts={name: one.value for name, one in given.items()},
        from_files=frozenset(from_files),
        manager=manager,
        of_manager=lambda name: read_configuration(
            flags=flags,
            keywords=keywords,
            env_file=None if env_file is None else str(path),
            environ=environ_then,
            start=project,
            needs_file=needs_file,
            manager=name,
        ),
    )


def _parse(given: Mapping[str, SourcedText], fields: Mapping[str, Field], errors: list[str]) -> dict[str, Any]:
    """Return the values by the lower-case names of the settings; an empty text stands for the default."""
    values: dict[str, Any] = {}
    for name, one in given.items():
        try:
            values[name.lower()] = fields[name].parse(one.value or fields[name].default)
        except ValueError as error:
            errors.append(f"{one.place}: {name}={one.value!r} is invalid; expected {error}")
    return values


def _build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return the settings of one class; those without a value have their defaults."""
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values})  # type: ignore[arg-type]


def _find_file(env_file: str | None, users_folder: Path, project: Path, *, needs_file: bool) -> Path | None:
    if env_file is None:
        path = project / DEFAULT_FILE
        if not path.is_file():
            if not needs_file:
                return None
            raise SettingsError(
                f"There is no {DEFAULT_FILE} in {project} or above it. Change to the project's folder, or name a file with -e FILE."
            )
        return path
    candidates = [users_folder / env_file, project / env_file]
    for path in candidates:
        if path.is_file():
            return path
    raise SettingsError(f"-e {env_file}: no such file (searched: {' and '.join(dict.fromkeys(map(str, candidates)))}).")


def _read_file(
    path: Path, fields: Mapping[str, Field], errors: list[str]
) -> tuple[dict[str, SourcedText], dict[str, str]]:
    settings: dict[str, SourcedText] = {}
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
            errors.append(f"{place}: {binding.original.string.strip()!r} does not have the form NAME=value")
        elif name is None:
            continue
        elif re.match(r"\s*export\s", binding.original.string):
            if name in known:
                errors.append(f"{place}: {name} is a setting; remove 'export'")
            exports[name] = binding.value or ""
        elif name not in known:
            errors.append(
                f"{place}: unknown setting {name}.{did_you_mean(name.upper(), known)} For a variable of your own: export {name}=…"
            )
        elif name in settings:
            errors.append(f"{place}: {name} is already set in {settings[name].place}")
        else:
            settings[name] = SourcedText(value=binding.value or "", place=place)
    return settings, exports


def _merge(
    given: dict[str, SourcedText], found: Mapping[str, SourcedText], fields: Mapping[str, Field], errors: list[str]
) -> None:
    """Override what is given with what was found in one place, under names or aliases."""
    for field in fields.values():
        chosen = found.get(field.name)
        for alias, convert in field.aliases.items():
            if alias not in found:
                continue
            one = found[alias]
            if chosen is not None:
                errors.append(f"{one.place}: {field.name} and its alias {alias} are both set; remove one")
            else:
                chosen = SourcedText(value=convert(one.value) if one.value else "", place=f"{one.place} ({alias})")
        if chosen is not None and (chosen.value or field.name not in given):
            given[field.name] = chosen


def _all_names(fields: Mapping[str, Field]) -> list[str]:
    return [*fields, *(alias for field in fields.values() for alias in field.aliases)]


def did_you_mean(name: str, known: list[str]) -> str:
    """Return a sentence with the most similar of the known names, after a space; empty if none is similar."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    return f" Did you mean {close[0]}?" if close else ""


def is_reference(value: str) -> bool:
    """Return whether a text is ``module:name`` rather than an address or a path."""
    return re.fullmatch(r"[A-Za-z_][\w.]+:[A-Za-z_]\w*", value) is not None


def _in_folder(value: str, folder: Path) -> str:
    """Return a relative local path from the command line as one in ``folder``; addresses and ``module:function`` stay."""
    if not value or "://" in value or is_reference(value):
        return value
    return str(folder / Path(value).expanduser())
