"""The command line ``taskfleet``: desipipe's commands over the queues of a folder."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from taskfleet.desipipe import listing, steering
from taskfleet.desipipe.logs import setup_logging
from taskfleet.desipipe.records import TaskState
from taskfleet.desipipe.spawning import DAY_SECONDS, MODES, spawn
from taskfleet.errors import CommandError
from taskfleet.terminal.guard import guarded

logger = logging.getLogger("taskfleet")

_QUEUE = "name of a queue; USER/NAME for another user's, ./NAME for one in this folder; with * for all that match"


class Verb(NamedTuple):
    """A command."""

    help: str
    add: Callable[[argparse.ArgumentParser], None]
    """Adds its options."""
    run: Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="taskfleet", description="Look at queues made with taskfleet.desipipe, and steer them."
    )
    commands = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for name, verb in VERBS.items():
        verb.add(commands.add_parser(name, help=verb.help, description=verb.help))
    options = parser.parse_args(sys.argv[1:] if argv is None else list(argv))

    def action() -> int:
        setup_logging()
        VERBS[options.verb].run(options)
        return 0

    return guarded(action, is_output_optional=options.verb not in ("queues", "tasks", "time"))


def _add_queue(parser: argparse.ArgumentParser, *, default: str | None = None, several: bool = True) -> None:
    parser.add_argument(
        "-q",
        "--queue",
        nargs="*" if several else None,
        default=default,
        required=default is None,
        metavar="NAME",
        help=_QUEUE,
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mid", nargs="*", metavar="ID", help="only tasks of the managers with these ids")
    parser.add_argument("--tid", nargs="*", metavar="ID", help="only tasks with these ids")
    parser.add_argument("--name", nargs="*", metavar="NAME", help="only tasks of the apps of these names")
    parser.add_argument("--jobid", nargs="*", metavar="ID", help="only tasks that these processes run or ran")


def _add_state(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    parser.add_argument(
        "--state",
        nargs="*",
        choices=TaskState.ALL,
        default=list(default),
        metavar="STATE",
        help=f"only tasks in these states: {', '.join(TaskState.ALL)}; default: {' '.join(default)}",
    )


def _add_spawn(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=float, default=DAY_SECONDS, metavar="SECONDS", help="stop after this time")
    parser.add_argument(
        "--timestep",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="the longest time between two looks at the queue",
    )
    parser.add_argument("--mode", default="", metavar="WORDS", help=f"{', '.join(MODES)}")
    parser.add_argument("--max-workers", type=int, metavar="N", help="replaces max_workers of all managers")
    parser.add_argument("--spawn", action="store_true", help="do it in another process, and return at once")


def _selection(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("mid", "tid", "name", "jobid") if getattr(options, name)}


def _queues(options: argparse.Namespace, *, may_be_none: bool = False) -> list[Any]:
    found: list[Any] = steering.get_queue(options.queue, create=False, one=False)
    if found:
        return found
    if not may_be_none:
        words = options.queue if isinstance(options.queue, list) else [options.queue]
        raise CommandError(f"There is no queue {' '.join(words)}. taskfleet queues lists those that exist.")
    logger.info("No matching queue")
    return []


def _show_queues(options: argparse.Namespace) -> None:
    found = _queues(options, may_be_none=True)
    if found:
        logger.info("Matching queues:")
    for one in found:
        logger.info(str(one))


def _tasks(options: argparse.Namespace) -> None:
    for one in _queues(options):
        listing.show_tasks(one, options.state, options.property, **_selection(options))


def _time(options: argparse.Namespace) -> None:
    for one in _queues(options):
        listing.show_times(one, **_selection(options))


def _spawn(options: argparse.Namespace) -> None:
    spawn(_queues(options), options.timeout, options.timestep, options.mode, options.max_workers, options.spawn)


def _pause(options: argparse.Namespace) -> None:
    for one in _queues(options):
        logger.info(f"Pausing queue {one!r}")
        one.pause()


def _resume(options: argparse.Namespace) -> None:
    for one in _queues(options):
        logger.info(f"Resuming queue {one!r}")
        one.resume()
    if options.spawn:
        _spawn(options)


def _retry(options: argparse.Namespace) -> None:
    for one in _queues(options):
        n = steering.retry(one, options.state, **_selection(options))
        logger.info("%d tasks of %s are PENDING again", n, one.filename)
    if options.spawn:
        _spawn(options)


def _kill(options: argparse.Namespace) -> None:
    for one in _queues(options):
        n = steering.kill(one, options.state, **_selection(options))
        logger.info("%d tasks of %s are killed", n, one.filename)


def _delete(options: argparse.Namespace) -> None:
    found = _queues(options, may_be_none=True)
    if not found:
        return
    logger.info("I will delete these queues:")
    for one in found:
        logger.info(str(one))
    if not options.force:
        logger.warning("--force is not set. To actually delete the queues, pass --force")
        return
    for one in found:
        one.delete()


def _of_queues(parser: argparse.ArgumentParser) -> None:
    _add_queue(parser, default="*/*")


def _of_tasks(parser: argparse.ArgumentParser) -> None:
    _add_queue(parser)
    _add_selection(parser)
    _add_state(parser, TaskState.ALL)
    parser.add_argument(
        "--property",
        nargs="*",
        choices=listing.PROPERTIES,
        default=list(listing.PROPERTIES[:4]),
        metavar="NAME",
        help=f"what to show of each task: {', '.join(listing.PROPERTIES)}",
    )


def _of_time(parser: argparse.ArgumentParser) -> None:
    _add_queue(parser)
    _add_selection(parser)


def _of_spawn(parser: argparse.ArgumentParser) -> None:
    _add_queue(parser)
    _add_spawn(parser)


def _of_retry(parser: argparse.ArgumentParser) -> None:
    _of_spawn(parser)
    _add_selection(parser)
    _add_state(parser, (TaskState.KILLED,))


def _of_kill(parser: argparse.ArgumentParser) -> None:
    _add_queue(parser)
    _add_selection(parser)
    _add_state(parser, (TaskState.RUNNING,))


def _of_delete(parser: argparse.ArgumentParser) -> None:
    _add_queue(parser)
    parser.add_argument("--force", action="store_true", help="delete them; without it they are only listed")


VERBS = {
    "queues": Verb("List queues, with the number of their tasks by state", _of_queues, _show_queues),
    "tasks": Verb("List the tasks of queues", _of_tasks, _tasks),
    "time": Verb("Show how long the tasks that succeeded took, by app", _of_time, _time),
    "spawn": Verb("Run the tasks of queues here", _of_spawn, _spawn),
    "pause": Verb("Let no more tasks begin; those that run end", _add_queue, _pause),
    "resume": Verb("Let tasks begin again", _of_spawn, _resume),
    "retry": Verb("Let tasks run again, by default the killed ones", _of_retry, _retry),
    "kill": Verb("Kill tasks, by default the running ones", _of_kill, _kill),
    "delete": Verb("Delete queues", _of_delete, _delete),
}
