"""The registry of commands: name, heading, line of help, and the sections of settings that become flags.

The command line, the poe tasks of a project (``shared_lib/poe.toml``), the documentation and the tests are generated from it.
"""

from dataclasses import dataclass
from enum import StrEnum

from taskfleet.settings.declaring import GROUPS, OWN_GROUPS, POOL_GROUPS


class Heading(StrEnum):
    """The groups in which commands are listed, in this order."""

    TASKS = "Tasks"
    MACHINES = "Machines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as users see it. The module ``taskfleet.commands.NAME`` has ``run(argv) -> exit code``."""

    name: str
    heading: Heading
    help: str
    """One line, without a full stop."""
    groups: tuple[str, ...] = ("job",)
    """The sections of settings (see ``settings.declaring.GROUPS``) whose settings are flags."""
    is_report: bool = False
    """Whether the output is the only purpose of the command; other commands do their work even if the output cannot be written."""
    script: str = ""
    """The project's own script that runs it; empty for ``python -m taskfleet NAME``."""

    @property
    def shell_command(self) -> str:
        """The command that its poe task runs; with ``-P``, none of the project's files can hide a module of Python."""
        return f"python {self.script}" if self.script else f"python -P -m taskfleet {self.name}"


_WORKER = ("worker", "limits", "retries", "watch")
_SERVER = ("provider", "slurm", "ssh")
_MACHINES = ("job", "provider", "location", *OWN_GROUPS)


def _task(name: str, help: str, *groups: str, script: str = "", is_report: bool = False) -> Command:
    groups = ("job", *groups)
    return Command(name=name, heading=Heading.TASKS, help=help, groups=groups, script=script, is_report=is_report)


def _machine(name: str, help: str, groups: tuple[str, ...] = _MACHINES, *, is_report: bool = False) -> Command:
    return Command(name=name, heading=Heading.MACHINES, help=help, groups=groups, is_report=is_report)


#: Every command by its name, in the order in which they are listed.
COMMANDS = {
    command.name: command
    for command in (
        _task("insert_tasks", "Insert the tasks of the table into the queue", "insert", script="insert_tasks.py"),
        _task("launch_worker", "Run tasks on the CPUs of this machine", *_WORKER, script="run.py"),
        _task("flow", "Run the project's script that makes a graph of tasks", *_WORKER),
        _task("status", "Show the job's progress: counts, rate, time left, failures", is_report=True),
        _task("tasks", "List tasks, for example those that failed", is_report=True),
        _task("task", "Show everything about one task: attempts, traceback, last output", is_report=True),
        _task("graph", "Show which functions take results of which, with the states of their tasks", is_report=True),
        _task("results", "Write the table with results and failures to a file"),
        _task("retry", "Put failed or killed tasks back into the queue"),
        _task("cancel", "Stop tasks that have not ended, also running ones"),
        _task("pause", "Let no task start until the job is resumed"),
        _task("resume", "Let tasks start again after a pause"),
        _task("release", "Revoke all leases, including those of live workers"),
        _task("rezero", "Count inserted and completed tasks from zero"),
        _task("monitor", "Record the events reported by remote workers", "watch"),
        _task("show_queue", "Show what is in the queue, with a sample task", is_report=True),
        _task("check_ledger", "Verify the job's ledger: file, states, counts, results"),
        _task("purge_queue", "Remove all pending tasks from the queue"),
        _task("move_queue", "Move the tasks to another queue"),
        _task("copy_queue", "Send the pending tasks to another queue as well"),
        _task("start_queue", "Start a PostgreSQL server of the project's own for the queue", *_SERVER),
        _task("stop_queue", "Stop the project's PostgreSQL server, and save its data", *_SERVER),
        _task("delete_queue", "Delete the job: its queue and its ledger"),
        _task(
            "settings",
            "Show every setting, its value and where it was set",
            *(group for group in GROUPS if group != "job"),
            is_report=True,
        ),
        _machine("list_regions", "List the provider's regions", ("provider", "location", *OWN_GROUPS), is_report=True),
        _machine(
            "list_images",
            "List the current operating system images",
            ("provider", "location", *OWN_GROUPS),
            is_report=True,
        ),
        _machine(
            "list_instance_types",
            "List machine types with their prices",
            ("provider", "location", "size", "machine", "task", *OWN_GROUPS),
            is_report=True,
        ),
        _machine(
            "plan", "Show which machines would be launched, and their cost", ("job", *POOL_GROUPS), is_report=True
        ),
        _machine(
            "calibrate",
            "Run a sample here, estimate the time, memory and cost of all tasks",
            ("job", "worker", "limits", "provider", "location", "size", "machine", "task", "number", *OWN_GROUPS),
        ),
        _machine(
            "deploy_pool",
            "Launch machines, replace those that fail, terminate all when the job is done",
            ("job", *_WORKER, *POOL_GROUPS),
        ),
        _machine("machines", "List the job's machines with their state and cost", is_report=True),
        _machine("stop", "Terminate all machines of the job, keep its tasks"),
        _machine("teardown", "Delete all resources of the pool, and verify that none is left"),
        _machine(
            "explain",
            "Explain why a task or the pool is stuck",
            ("job", "limits", "provider", "location", "number", "lifetime", *OWN_GROUPS),
            is_report=True,
        ),
    )
}
