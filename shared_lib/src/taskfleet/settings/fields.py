"""Every setting: its type, unit, default and one sentence.

From these fields come the reader and its checks, the flags of the commands and their help, the comments of ``config/task.env`` and the
reference table in the documentation.
"""

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

#: Addresses of queues: in the ledger, and at services.
EMBEDDED = re.compile(r"ledger|fq://.+")
REMOTE = re.compile(r"sqs://[^/?]+.*|https?://[^/]+/\d+/[^/?]+.*|pubsub://[^?]+|postgres(ql)?://.*", re.DOTALL)

#: What the fields are about, in the order in which they are shown.
GROUPS = {
    "job": "The job",
    "insert": "Inserting tasks",
    "worker": "The worker",
    "limits": "Limits of a task",
    "retries": "Trying again",
    "watch": "What is written down",
    "place": "Where machines are taken",
    "machine": "What a machine has to be",
    "number": "How many machines, and how dear",
    "start": "How machines start",
}
#: Those of ``config/pool.env``; the others are in ``config/task.env``.
POOL_GROUPS = ("place", "machine", "number", "start")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One setting as users see it."""

    name: str
    """In files and in the environment: upper case, with its unit."""
    flag: str
    group: str
    sentence: str
    metavar: str
    default: str
    """As one would write it; empty for none."""
    parse: Callable[[str], object]
    """Turns the text into the value; raises ValueError with what is wanted."""
    old_names: Mapping[str, Callable[[str], str]]
    """Names of other systems that are accepted, with what makes our text of theirs."""
    is_path: bool
    is_switch: bool


def setting(
    group: str,
    sentence: str,
    parse: Callable[[str], T],
    *,
    metavar: str,
    default: str = "",
    flag: str = "",
    old_names: Mapping[str, Callable[[str], str]] | None = None,
    is_path: bool = False,
) -> T:
    """Declare a field of ``Settings``."""
    details = {
        "group": group,
        "sentence": sentence,
        "parse": parse,
        "metavar": metavar,
        "default": default,
        "flag": flag,
        "old_names": old_names or {},
        "is_path": is_path,
    }
    return dataclasses.field(default_factory=lambda: parse(default), metadata=details)


def text(value: str) -> str:
    """Take any text."""
    return value


def job_name(value: str) -> str:
    """Take what can be part of a file name and of a queue's name in every cloud."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,62}", value):
        raise ValueError("a letter, then at most 62 letters, digits, '-' or '_'")
    return value


def function_name(value: str) -> str:
    """Take ``module:function``."""
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        raise ValueError("module:function, for example task:run_task")
    return value


def queue_url(value: str) -> str:
    """Take the address of a queue."""
    if EMBEDDED.fullmatch(value) or REMOTE.fullmatch(value):
        return value
    raise ValueError("'ledger', sqs://NAME, pubsub://PROJECT/NAME or postgresql://[USER@][HOST]/DATABASE")


def tasks_per_message(value: str) -> int | None:
    """Take a number of tasks, or 'auto' for None."""
    if value == "auto":
        return None
    try:
        return whole(1, 1000)(value)
    except ValueError:
        raise ValueError("'auto' or a whole number from 1 to 1000") from None


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Take a whole number from ``low`` on, of at most 18 digits, which fit into the ledger."""
    wanted = f"a whole number from {low} " + ("on" if high is None else f"to {high}")

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]+(_[0-9]+)*", value):
            raise ValueError(wanted)
        if len(value.replace("_", "")) > 18:
            raise ValueError(f"{wanted}, of at most 18 digits")
        if int(value) < low or (high is not None and int(value) > high):
            raise ValueError(wanted)
        return int(value)

    return parse


def number(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """Take a finite number from ``low`` on, or above it, up to ``high``."""
    wanted = f"a number {'above' if above else 'of at least'} {low:g}"
    if high < math.inf:
        wanted += f" and at most {high:g}"

    def parse(value: str) -> float:
        try:
            found = float(value)
        except ValueError:
            raise ValueError(wanted) from None
        if not math.isfinite(found) or not low <= found <= high or (above and found == low):
            raise ValueError(wanted)
        return found

    return parse


def delays_by_kind(value: str) -> tuple[tuple[str, float, float | None], ...]:
    """Take ``kind=first`` or ``kind=first..longest``, in seconds, for any number of kinds."""
    found: dict[str, tuple[str, float, float | None]] = {}
    seconds = number(0)
    for part in re.split(r"[\s,]+", value.strip()) if value.strip() else ():
        kind, _, delays = part.partition("=")
        first, dots, longest = delays.partition("..")
        try:
            known = {"exception", "timeout", "exit", "memory", "lost", "request"}
            if kind not in known or kind in found or (dots and seconds(longest) < seconds(first)):
                raise ValueError
            found[kind] = (kind, seconds(first), seconds(longest) if dots else None)
        except ValueError:
            raise ValueError(
                "kind=first or kind=first..longest in seconds, separated by spaces; kinds: exception, timeout, exit, memory, lost, request"
            ) from None
    return tuple(found.values())


def optional(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    """Take an empty text for none."""
    return lambda value: parse(value) if value else None


def switch(value: str) -> bool:
    """Take yes or no in the usual spellings."""
    if value.lower() in {"true", "yes", "on", "1"}:
        return True
    if value.lower() in {"false", "no", "off", "0"}:
        return False
    raise ValueError("true or false")


def choice(*words: str, make: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """Take one of some words."""

    def parse(value: str) -> Any:
        if value not in words:
            raise ValueError(" or ".join([", ".join(words[:-1]), words[-1]]))
        return make(value)

    return parse


def auto_switch(value: str) -> bool | None:
    """Take yes, no, or ``auto``."""
    try:
        return None if value == "auto" else switch(value)
    except ValueError:
        raise ValueError("'auto', true or false") from None


def slots(value: str) -> int | None:
    """Take a number of slots, or ``auto`` for one per CPU."""
    if value == "auto":
        return None
    try:
        return whole(1, 4096)(value)
    except ValueError:
        raise ValueError("'auto' (one per CPU) or a whole number from 1 to 4096") from None


def start_method(value: str) -> str:
    """Take one of the standard library's start methods, or ``auto`` for the one that suits the system."""
    if value == "auto":
        return "fork" if sys.platform.startswith("linux") else "spawn"
    known = ("spawn",) if sys.platform == "win32" else ("fork", "spawn", "forkserver")
    if value in known:
        return value
    raise ValueError(" or ".join(["'auto'", *known]))


def _feather(value: str) -> str:
    return value if Path(value).suffix else f"{value}.feather"


def _same(value: str) -> str:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a job. ``settings.fields()`` describes them; ``settings.reader`` makes one of these."""

    job_id: str = setting(
        "job",
        "The job's name; it names the ledger and, later, queues and machines.",
        job_name,
        metavar="NAME",
        default="job",
    )
    queue_url: str = setting(
        "job",
        "Where the tasks wait: 'ledger' (embedded in the ledger file), sqs://NAME, pubsub://PROJECT/NAME or postgresql://USER@HOST/DATABASE.",
        queue_url,
        metavar="URL",
        default="ledger",
        old_names={"TASKQUEUE_PATH": _same},
    )
    ledger_path: str = setting(
        "job",
        "The ledger, one SQLite file per job; {job_id} stands for the job's name.",
        text,
        metavar="FILE",
        default="jobs/{job_id}.db",
        is_path=True,
    )
    shared_ledger: bool | None = setting(
        "job",
        "Whether several hosts use the ledger over a shared file system; 'auto' looks at the file system when the ledger is made.",
        auto_switch,
        metavar="BOOL",
        default="auto",
    )
    task_function: str = setting(
        "job",
        "The function that does one task, as module:function.",
        function_name,
        metavar="NAME",
        default="task:run_task",
    )
    output_path: str | None = setting(
        "job",
        "Handed to functions that have a parameter 'output_path', and to filter_tasks: a folder or a bucket.",
        optional(text),
        metavar="PATH",
        old_names={"CF_CLOUDPATH": _same},
    )
    task_table: str = setting(
        "insert",
        "The table: a feather, parquet, CSV, JSON, JSON lines or YAML file, here or at s3://, gs:// or https://; "
        "or a generator, as module:function.",
        text,
        metavar="TABLE",
        default="tasks.json",
        old_names={"TASK_PARAMETER_FILENAME": _feather},
        is_path=True,
    )
    start_task: int = setting(
        "insert", "Leave away the first so many rows of the table.", whole(0), metavar="N", default="0"
    )
    insert_limit: int | None = setting(
        "insert", "Insert at most so many rows.", optional(whole(1)), metavar="N", flag="--limit"
    )
    tasks_per_message: int | None = setting(
        "insert",
        "With a queue at a service: how many tasks travel in one message; 'auto' goes by their number and by how long they take.",
        tasks_per_message,
        metavar="N",
        default="auto",
    )
    slots: int | None = setting(
        "worker", "How many tasks run at once: 'auto' is one per CPU.", slots, metavar="N", default="auto"
    )
    tasks_per_process: int = setting(
        "worker",
        "Tasks a process runs before it is replaced; 1 isolates each task, 0 keeps the process for ever (for tasks of milliseconds).",
        whole(0),
        metavar="N",
        default="1",
    )
    start_method: str = setting(
        "worker",
        "How the processes that run tasks are started: 'fork' from one that has imported your module already, or 'spawn' or 'forkserver' "
        "as in Python's multiprocessing, where each imports it; 'auto' is fork on Linux, spawn elsewhere, where fork is unsafe.",
        start_method,
        metavar="METHOD",
        default="auto",
    )
    skip_tasks: int = setting(
        "worker", "Leave the first so many tasks of the job to other workers.", whole(0), metavar="N", default="0"
    )
    max_tasks: int | None = setting("worker", "Stop after so many tasks.", optional(whole(1)), metavar="N")
    idle_seconds: float = setting(
        "worker",
        "With SQS or Pub/Sub, which cannot say exactly what they have: end when the queue has given nothing for so long.",
        number(0),
        metavar="SECONDS",
        default="60",
    )
    keep_waiting: bool = setting(
        "worker", "Wait for new tasks when all are done, instead of ending.", switch, metavar="BOOL", default="false"
    )
    simulate_spot_termination_after_seconds: float | None = setting(
        "worker",
        "Act as if a spot termination notice came so long after the start; for tests.",
        optional(number(0)),
        metavar="SECONDS",
        flag="--simulate-spot-termination-after",
    )
    simulate_spot_termination_delay_seconds: float = setting(
        "worker",
        "How long after the simulated notice running tasks are killed.",
        number(0),
        metavar="SECONDS",
        default="30",
        flag="--simulate-spot-termination-delay",
    )
    shutdown_grace_seconds: float = setting(
        "worker",
        "How long running tasks may go on after Ctrl-C or SIGTERM before they are handed back.",
        number(0),
        metavar="SECONDS",
        default="30",
    )
    lease_seconds: float = setting(
        "worker",
        "How long after a worker's last sign of life its tasks go to another; it renews its lease three times in this time.",
        number(1),
        metavar="SECONDS",
        default="30",
        old_names={"TQ_LEASE_SECONDS": _same},
    )
    max_runtime_seconds: float | None = setting(
        "limits",
        "A task that runs longer is killed; empty for no limit.",
        optional(number(0, above=True)),
        metavar="SECONDS",
    )
    memory_limit_gib: float | None = setting(
        "limits",
        "A task that holds more memory than this, its child processes included, is killed; empty for no limit.",
        optional(number(0, above=True)),
        metavar="GIB",
    )
    max_result_mib: float = setting(
        "limits",
        "The largest result a task may return, as JSON text.",
        number(0, 900, above=True),  # a value in SQLite has at most 1,000,000,000 bytes
        metavar="MIB",
        default="16",
    )
    output_tail_kib: float = setting(
        "limits", "How much of the end of what a task prints is kept.", number(0), metavar="KIB", default="8"
    )
    retries_on_exception: int = setting(
        "retries",
        "How often a task is tried again after it raised an exception.",
        whole(0, 900),
        metavar="N",
        default="0",
    )
    retries_on_timeout: int = setting(
        "retries", "How often a task is tried again after it ran too long.", whole(0, 900), metavar="N", default="0"
    )
    retries_on_exit: int = setting(
        "retries", "How often a task is tried again after its process crashed.", whole(0, 900), metavar="N", default="1"
    )
    retries_on_memory: int = setting(
        "retries",
        "How often a task is tried again after it went over its memory limit.",
        whole(0, 900),
        metavar="N",
        default="0",
    )
    retries_on_lost: int = setting(
        "retries",
        "How often a task is tried again after its worker or machine died with it; the first time does not count, as it may not have been "
        "begun. 0: never, not even then.",
        whole(0, 900),
        metavar="N",
        default="5",
    )
    retries_on_request: int = setting(
        "retries",
        "How often a task is tried again because it asked for it (raise Retry).",
        whole(0, 900),
        metavar="N",
        default="10",
    )
    retry_delay_seconds: float = setting(
        "retries",
        "How long the first retry waits; each further one of its kind waits twice as long.",
        number(0),
        metavar="SECONDS",
        default="1",
    )
    retry_delay_max_seconds: float = setting(
        "retries", "How long a retry waits at most.", number(0), metavar="SECONDS", default="300"
    )
    retry_delays: tuple[tuple[str, float, float | None], ...] = setting(
        "retries",
        "Other delays in seconds for some kinds, as kind=first..longest: 'exit=10..600 timeout=60'. A lost task waits only if named here.",
        delays_by_kind,
        metavar="LIST",
    )
    event_file: str | None = setting(
        "watch",
        "Append every event to this file, one JSON object a line.",
        optional(text),
        metavar="FILE",
        is_path=True,
    )
    progress_seconds: float = setting(
        "watch",
        "How often a worker without a terminal prints a line on its progress.",
        number(0, above=True),
        metavar="SECONDS",
        default="10",
    )
    verbose: bool = setting("watch", "Print a line for every attempt.", switch, metavar="BOOL", default="false")


def describe() -> tuple[Field, ...]:
    """Describe all settings, in the order in which they are shown."""
    from taskfleet.settings.pool_fields import PoolSettings

    return tuple(_describe(field) for kind in (Settings, PoolSettings) for field in dataclasses.fields(kind))


def _describe(field: "dataclasses.Field[Any]") -> Field:
    details = dict(field.metadata)
    details["flag"] = details["flag"] or "--" + field.name.replace("_", "-")
    return Field(name=field.name.upper(), is_switch=details["parse"] is switch, **details)
