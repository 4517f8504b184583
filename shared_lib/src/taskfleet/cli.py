"""The command line: ``python -m taskfleet COMMAND``, which is what the poe tasks of a project call.

A command's module is imported when it is called, so that ``status`` does not wait for pandas.
"""

import importlib
import sys
from collections.abc import Sequence

from taskfleet.commands.guard import guarded

#: Every command, with its line of help. The module ``taskfleet.commands.NAME`` has ``run(argv) -> exit code``.
COMMANDS = {
    "insert_tasks": "Put the tasks of the table into the queue",
    "launch_worker": "Work on the tasks with the CPUs of this machine",
    "status": "Show how far the job is: counts, rate, time left, failures",
    "tasks": "List tasks, for example those that failed",
    "task": "Show everything about one task: attempts, traceback, last output",
    "results": "Write the table with results and failures to a file",
    "retry": "Put failed or killed tasks back into the queue",
    "release": "Revoke all leases, including those of live workers",
    "monitor": "Record what remote workers report",
    "show_queue": "Show what is in the queue, with a sample task",
    "purge_queue": "Take the pending tasks out of the queue",
    "move_queue": "Move the tasks to another queue",
    "copy_queue": "Send the pending tasks to another queue as well",
    "delete_queue": "Delete the job: its queue and its ledger",
    "settings": "Show every setting, its value and where that comes from",
    "list_regions": "List the provider's regions",
    "list_images": "List the current operating system images",
    "list_instance_types": "List types of machines with their prices",
    "plan": "Show which machines would be started, and what they would cost",
    "calibrate": "Run a sample here and estimate what all tasks need and cost",
    "deploy_pool": "Start machines, replace those that fail, end all when the job is done",
    "machines": "List the job's machines: what they do and what they cost",
    "stop": "End all machines of the job; its tasks stay",
    "teardown": "Remove everything made for the pool, and check that nothing is left",
    "explain": "Say why a task or the pool is stuck",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if not argv or argv[0] in {"-h", "--help"}:
        print(overview())
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}.\n\n{overview()}", file=sys.stderr)
        return 2
    return guarded(lambda: _run(name, rest))


def overview() -> str:
    """List the commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {sentence}" for name, sentence in COMMANDS.items()]
    return "\n".join(["Usage: python -m taskfleet COMMAND [-e FILE] [--help] ...", "", *lines])


def _run(name: str, argv: list[str]) -> int:
    module = importlib.import_module(f"taskfleet.commands.{name}")
    code: int = module.run(argv)
    sys.stdout.flush()
    return code
