"""Every setting: its type, unit, default and one sentence.

From these fields come the reader and its checks, the flags of the commands and their help, the comments of ``config/task.env`` and the
reference table in the documentation.
"""

from dataclasses import dataclass

from taskfleet.settings.declaring import setting
from taskfleet.settings.parsers import (
    auto_switch,
    delays_by_kind,
    feather_file,
    function_name,
    job_name,
    number,
    optional,
    queue_url,
    slots,
    start_method,
    switch,
    tasks_per_message,
    text,
    unchanged,
    whole,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a job. ``settings.describe()`` describes them; ``settings.reader`` makes one of these."""

    job_id: str = setting(
        "job",
        "The job's name; the ledger, the queues and the machines are named after it.",
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
        old_names={"TASKQUEUE_PATH": unchanged},
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
        old_names={"CF_CLOUDPATH": unchanged},
    )
    task_table: str = setting(
        "insert",
        "The table: a feather, parquet, CSV, JSON, JSON lines or YAML file, here or at s3://, gs:// or https://; "
        "or a generator, as module:function.",
        text,
        metavar="TABLE",
        default="tasks.json",
        old_names={"TASK_PARAMETER_FILENAME": feather_file},
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
        old_names={"TQ_LEASE_SECONDS": unchanged},
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
    verbose: bool = setting(
        "watch", "Print log messages (as -v) and a line for every attempt.", switch, metavar="BOOL", default="false"
    )
