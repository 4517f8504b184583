"""``Worker``: the main program of a script that was written for rms-cloud-tasks."""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskfleet.errors import UsageError
from taskfleet.rms.options import add_options, attributes_of, settings_of
from taskfleet.settings.rms_names import PREFIX, queue_url_in, yes
from taskfleet.worker_data import WorkerData, pack

if TYPE_CHECKING:  # task processes import this module too
    from taskfleet.api.working import WorkReport
    from taskfleet.settings import Configuration

#: With tasks of one's own. Their output is printed, since it is not kept.
_OWN_DEFAULTS = {"MAX_RUNTIME_SECONDS": "3600", "RETRIES_ON_EXIT": "0", "OUTPUT_TAIL_KIB": "1024"}
TaskSource = str | os.PathLike[str] | Callable[[], Iterable[Mapping[str, Any]]]


class Worker:
    """Runs a function over the tasks of a file, of a generator or of a queue.

    With tasks of its own (``task_source``, ``--task-file``), each run is a new job that runs all of them, with the defaults of
    rms-cloud-tasks. Otherwise it is a worker of a job: its settings and their defaults apply, below the options.

    Args:
        user_worker_function: ``process_task(task_id, task_data, worker_data)``, which returns ``(retry, result)``; a function at the top
            level of a module or of the script.
        task_source: A table of tasks, or a function that returns an iterable of ``{"task_id": …, "data": {…}}``; it overrides
            ``--task-file``.
        args: The command line; None for that of the script.
        argparser: A parser with options of the script's own. The parsed command line is ``worker_data.args``.
    """

    def __init__(
        self,
        user_worker_function: Callable[[str, dict[str, Any], WorkerData], tuple[bool, Any]],
        *,
        task_source: TaskSource | None = None,
        args: Sequence[str] | None = None,
        argparser: argparse.ArgumentParser | None = None,
    ) -> None:
        parser = argparser or argparse.ArgumentParser(description="Run tasks from a file or a queue.")
        add_options(parser)
        self._arguments = parser.parse_args(args)
        self._function = user_worker_function
        file = self._arguments.task_file or os.environ.get(f"{PREFIX}TASK_FILE")
        self._source: TaskSource | None = file or None if task_source is None else task_source

    async def start(self) -> None:
        """Run tasks until none are left or the worker is stopped. Other coroutines wait meanwhile.

        After an error, or if tasks are left because it was stopped, it exits the interpreter, as ``launch_worker`` does.
        """
        from taskfleet.terminal.guard import INTERRUPTED, guarded

        if _is_in_task_process():
            raise RuntimeError(
                "The script starts its worker when it is imported. Call start() in a block: if __name__ == '__main__':"
            )

        def run() -> int:
            report = self._work_on_queue() if self._source is None else self._work_on_own_tasks(self._source)
            print(report.text)
            is_unfinished = report.status is not None and report.status.ended < report.status.total
            return INTERRUPTED if report.was_stopped or (self._source is not None and is_unfinished) else 0

        if code := guarded(run, is_output_optional=True):
            sys.exit(code)

    def _work_on_own_tasks(self, source: TaskSource) -> "WorkReport":
        import tempfile

        from taskfleet.api.inserting import insert
        from taskfleet.functions import examine

        texts = settings_of(self._arguments)
        if not callable(source):
            texts["TASK_TABLE"] = os.fspath(source) if isinstance(source, os.PathLike) else str(source)
        settings = self._read(texts).settings
        texts |= {
            "QUEUE_URL": "ledger",
            "START_TASK": str(settings.skip_tasks),
            "SKIP_TASKS": "",
            "INSERT_LIMIT": str(settings.max_tasks or ""),
            "MAX_TASKS": "",
        }
        defaults = {"SLOTS": self._num_cpus(), **_OWN_DEFAULTS}
        if self._logs_to_file(default=True):
            defaults["EVENT_FILE"] = "events.log"
        else:
            texts["EVENT_FILE"] = ""
        with tempfile.TemporaryDirectory(prefix="taskfleet-") as folder:
            configuration = self._read(texts | {"LEDGER_PATH": str(Path(folder, "job.db"))}, defaults)
            rows = source() if callable(source) else None
            insert(configuration, rows, function=examine(self._function, is_rms_style=True))
            own: dict[str, Any] = {} if "JOB_ID" in configuration.texts else {"job_id": None, "queue_name": None}
            return self._work(configuration, own, echoes=True)

    def _work_on_queue(self) -> "WorkReport":
        from taskfleet.pool.manifest import check_code
        from taskfleet.settings.reader import DEFAULT_FILE, find_project

        project = find_project(_import_name(self._function)[1])
        check_code(project, os.environ)
        options, texts = self._arguments, settings_of(self._arguments)
        name = options.queue_name or options.job_id
        given = {"PROVIDER": options.provider, "QUEUE_NAME": name, "PROJECT_ID": options.project_id}
        variables = dict(os.environ) | {PREFIX + key: value for key, value in given.items() if value}
        if (options.provider or name) and (url := queue_url_in(variables)):
            texts["QUEUE_URL"] = url
        to_file = self._logs_to_file(default=None)
        if to_file is False:
            texts["EVENT_FILE"] = ""
        configuration = self._read(texts, {"EVENT_FILE": "events.log"} if to_file else {})
        if "QUEUE_URL" not in configuration.texts and not (project / DEFAULT_FILE).is_file():
            raise UsageError(
                "There are no tasks: name a table (--task-file), or a queue (--provider and --job-id, or QUEUE_URL in the environment)."
            )
        return self._work(configuration, {})

    def _work(self, configuration: "Configuration", own: Mapping[str, Any], *, echoes: bool = False) -> "WorkReport":
        from taskfleet.api.working import work
        from taskfleet.rms.echo import Echo

        name, folder = _import_name(self._function)
        attributes = dict(attributes_of(self._arguments))
        if isinstance(provider := attributes.get("provider"), str):
            attributes["provider"] = provider.upper()
        arguments = {"args": pack(self._arguments), "main": name.partition(":")[0]}
        changes = {
            "function": name,
            "project": str(folder),
            "working_directory": str(Path.cwd()),
            "is_rms_style": True,
            "rms": {**own, **attributes, **arguments},
        }
        return work(configuration, hooks=Echo() if echoes else None, changes=changes)

    def _read(self, texts: Mapping[str, str], defaults: Mapping[str, str] | None = None) -> "Configuration":
        """Read the settings: the options, the environment, a project's files, and the given defaults where none of these says anything."""
        from taskfleet.settings import read_configuration
        from taskfleet.terminal.logs import configure_logging

        configure_logging(2 if self._arguments.verbose else 0, None)
        start = _import_name(self._function)[1]
        found = read_configuration(flags=texts, env_file=None, start=start, needs_file=False)
        unset = {name: text for name, text in (defaults or {}).items() if name not in found.texts}
        if not unset:
            return found
        return read_configuration(flags=texts, keywords=unset, env_file=None, start=start, needs_file=False)

    def _num_cpus(self) -> str:
        return str(self._arguments.num_cpus or os.environ.get(f"{PREFIX}INSTANCE_NUM_VCPUS") or 1)

    def _logs_to_file(self, *, default: bool | None) -> bool | None:
        if self._arguments.event_log_to_file is not None:
            return bool(self._arguments.event_log_to_file)
        text = os.environ.get(f"{PREFIX}EVENT_LOG_TO_FILE")
        return default if text is None else yes(text)


def _is_in_task_process() -> bool:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return multiprocessing.parent_process() is not None or (spec is not None and spec.name.startswith("taskfleet."))


def _import_name(function: Callable[..., Any]) -> tuple[str, Path]:
    """Return the name of a function, as ``module:name``, and the folder that its module is imported from.

    Raises:
        UsageError: Other processes cannot import it.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module is None or not name or "<" in name:
        raise UsageError(
            f"{function!r} cannot be the task function: each task's process imports it by its name, so it must be a function at the "
            "top level of a module."
        )
    main = sys.modules["__main__"]
    file = getattr(sys.modules[module], "__file__", None)
    if module == "__main__" and main.__spec__ is not None:  # python -m
        module = main.__spec__.name
        return f"{module}:{name}", Path.cwd()
    if file is None:
        raise UsageError(
            f"{name} cannot be the task function: its module has no file that other processes could import."
        )
    path = Path(file).resolve()
    if module != "__main__":
        return f"{module}:{name}", path.parents[module.count(".") + (path.stem == "__init__")]
    if path.suffix != ".py" or "." in path.stem:
        raise UsageError(
            f"{path} cannot be imported by the tasks' processes. Rename it: letters, digits and _, then .py."
        )
    return f"{path.stem}:{name}", path.parent
