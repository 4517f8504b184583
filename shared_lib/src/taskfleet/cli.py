"""The command line: ``python -m taskfleet COMMAND``, which is what the poe tasks of a project call.

A command's module is imported when it is called, so that ``status`` does not wait for pandas.
"""

import importlib
import sys
from collections.abc import Sequence

from taskfleet.commands.guard import guarded

#: Every command, with its line of help. The module ``taskfleet.commands.NAME`` has ``run(argv) -> exit code``.
COMMANDS = {
    "insert_tasks": "Load the table into the queue",
    "launch_worker": "Work on tasks on this machine",
    "status": "Show how the job stands: counts, rate, time left, durations, failures",
    "tasks": "List tasks, of one state or kind of failure if asked",
    "task": "Show one task whole: its attempts, traceback, last output",
    "results": "Write the table joined with results and failures to a file",
    "retry": "Put failed or killed tasks back into the queue",
    "release": "Revoke all leases, including those of live workers",
    "monitor": "Take what workers elsewhere tell into the ledger",
    "show_queue": "Show what is in the queue, and a task of it",
    "purge_queue": "Take all waiting tasks out of the queue",
    "move_queue": "Have the tasks travel by another queue",
    "copy_queue": "Send the waiting tasks to another queue as well",
    "delete_queue": "Delete the job: its queue and its ledger",
    "list_regions": "List where machines can be had",
    "list_images": "List the systems that machines can boot",
    "list_instance_types": "List types of machines with their prices",
    "plan": "Show which machines would be started, for how much",
    "calibrate": "Run a sample here, and say what all tasks need and cost on machines",
    "deploy_pool": "Start machines, keep the pool full, watch, end everything",
    "machines": "List the machines of the job: what they do, what they cost",
    "stop": "End all machines of the job; its tasks stay",
    "teardown": "End and remove all that was made for the job's pool, and show that nothing is left",
    "explain": "Say in one sentence why a task or the pool does not move",
    "settings": "Show every setting, its value and where it comes from",
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
