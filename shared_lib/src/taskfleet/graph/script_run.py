"""Runs the script of a graph as ``python SCRIPT`` would, and keeps which flows it opened."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from taskfleet.errors import TaskfleetError

_LIBRARY = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
#: The flows that were opened, in their order.
opened: list[Any] = []
#: Whether a command runs the script, which says itself what is left in the end.
is_command = False
#: The file of settings that the command was given, for flows that name none; None for ``config/task.env``.
env_file: str | None = None
_make_flow: Callable[[Any], Any] | None = None


def make_flows_by(make: Callable[[Any], Any]) -> None:
    """Have the flows of the script made by another function of the job than ``Flow``."""
    global _make_flow
    _make_flow = make


def open_flow(job: Any, usual: Callable[[Any], Any]) -> Any:
    """Return a flow for a job, which is noted.

    Args:
        job: The job.
        usual: Makes it, unless ``make_flows_by`` was called.
    """
    found = (_make_flow or usual)(job)
    opened.append(found)
    return found


def run_script(path: Path, arguments: Sequence[str]) -> int:
    """Run a script as ``__main__``; return its exit code. The traceback of an exception begins in the script.

    Args:
        path: The script.
        arguments: Its command-line arguments.

    Raises:
        TaskfleetError: An error for the user, without a traceback.
        KeyboardInterrupt: Ctrl-C.
    """
    global is_command
    is_command = True
    module = ModuleType("__main__")
    module.__dict__.update(__file__=str(path), __builtins__=__builtins__)
    sys.modules["__main__"] = module
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except TaskfleetError as error:
        print(lines_of_script(error.__traceback__), end="", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        raise
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        traceback.print_exception(error.with_traceback(_from_script(error.__traceback__, str(path))))
        return 1
    finally:
        for one in opened:
            one.end()
    return 0


def lines_of_script(trace: TracebackType | None) -> str:
    """Return the lines of a traceback that are not the library's."""
    frames = [one for one in traceback.extract_tb(trace) if not one.filename.startswith(_LIBRARY)]
    return "".join(traceback.format_list(frames))


def _from_script(trace: TracebackType | None, path: str) -> TracebackType | None:
    """Return the part of a traceback that begins in the script; None if it was not reached."""
    while trace is not None and trace.tb_frame.f_code.co_filename != path:
        trace = trace.tb_next
    return trace
