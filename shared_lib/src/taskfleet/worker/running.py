"""Run a worker according to the settings, on any queue."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from taskfleet.events import EventFile, make_event
from taskfleet.machines.provider import watcher_here
from taskfleet.processes.identity import NODES_VARIABLE, hostname
from taskfleet.queues import Queue
from taskfleet.settings import Configuration
from taskfleet.tasks import WorkerEnd
from taskfleet.text import counted
from taskfleet.worker.config import WorkerConfig
from taskfleet.worker.hooks import Hooks
from taskfleet.worker.observers import Display, Observer
from taskfleet.worker.rms_attributes import rms_attributes
from taskfleet.worker.supervisor import Supervisor


def supervise(
    configuration: Configuration, queue: Queue, progress: Display, config: WorkerConfig, hooks: Hooks | None = None
) -> bool:
    """Run tasks until the queue is empty or the worker is stopped; return whether something but its hooks stopped it."""
    settings = configuration.settings
    observers: list[Observer] = [progress]
    events = None
    if settings.event_file:
        events = EventFile(configuration.project / Path(settings.event_file).expanduser())
        observers.append(events)
    if hooks is not None:
        observers.append(hooks)
    supervisor = Supervisor(
        queue if hooks is None else hooks.around(queue),
        config,
        configuration,
        observers=observers,
        watcher=watcher_here(os.environ),
    )
    stopped_by_hooks = False

    def stop() -> None:
        nonlocal stopped_by_hooks
        if not supervisor.was_stopped:  # a second request would kill the running tasks
            stopped_by_hooks = True
            supervisor.stop()

    if hooks is not None:
        hooks.stop_worker = stop
    progress.say(_greeting(configuration, config.slots))
    end_reason = WorkerEnd.FAILED
    try:
        supervisor.run()
        end_reason = WorkerEnd.PREEMPTED if supervisor.was_preempted else WorkerEnd.STOPPED
    except Exception as error:
        if events is not None:
            events.write(make_event("fatal_exception", time.time(), exception=f"{type(error).__name__}: {error}"))
        raise
    finally:
        queue.close(time.time(), end_reason)
        progress.close(time.time())
        if events is not None:
            events.close()
    return supervisor.was_stopped and not stopped_by_hooks


def make_config(
    configuration: Configuration,
    *,
    slots: int,
    args: Sequence[str],
    most_result_bytes: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> WorkerConfig:
    """Return the configuration of all processes of a worker.

    Args:
        configuration: The settings.
        slots: The number of slots.
        args: The arguments for the tasks.
        most_result_bytes: What the queue allows.
        changes: Fields with other values; those of ``rms`` are added to its own.
    """
    settings, changes = configuration.settings, dict(changes or {})
    rms = rms_attributes(configuration, os.environ) | changes.pop("rms", {})
    config = WorkerConfig(
        function=settings.task_function,
        project=str(configuration.project),
        job_id=settings.job_id,
        hostname=hostname(),
        output_path=settings.output_path,
        args=tuple(args),
        slots=slots,
        tasks_per_process=settings.tasks_per_process,
        max_runtime_seconds=settings.max_runtime_seconds,
        memory_limit_bytes=None if settings.memory_limit_gib is None else int(settings.memory_limit_gib * 2**30),
        kills_at_time_limit=settings.on_time_limit == "kill",
        cancel_grace_seconds=settings.cancel_grace_seconds,
        max_result_bytes=min(int(settings.max_result_mib * 2**20), most_result_bytes or sys.maxsize),
        output_tail_bytes=int(settings.output_tail_kib * 2**10),
        start_method=settings.start_method,
        is_start_method_free=configuration.texts.get("START_METHOD", "auto") in ("", "auto"),
        rms=rms,
        mpi_processes=settings.mpi_processes,
        mpi_launcher=settings.mpi_launcher or "",
        launches_tasks=os.environ.get(NODES_VARIABLE, "1") != "1",
        results_path=configuration.results_path,
    )
    return replace(config, **changes)


def _greeting(configuration: Configuration, slots: int) -> str:
    settings = configuration.settings
    manager = f", manager {configuration.manager}" if configuration.manager else ""
    process = {0: "one process for all tasks", 1: "one process per task"}.get(
        settings.tasks_per_process, f"one process for {settings.tasks_per_process} tasks"
    )
    if settings.start_method != "fork":
        process += f" (START_METHOD={settings.start_method})"
    limits = []
    if settings.max_runtime_seconds is not None:
        limits.append(f"at most {settings.max_runtime_seconds:g} s each")
    if settings.memory_limit_gib is not None:
        limits.append(f"at most {settings.memory_limit_gib:g} GiB each")
    description = ", ".join([counted(slots, "concurrent task"), process, *limits])
    return f"Worker for job {settings.job_id}{manager}: {description}. Press Ctrl-C once to finish the running tasks and stop."
