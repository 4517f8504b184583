"""The settings of a job and its workers: type, unit, default and one sentence each.

The reader and its checks, the flags of the commands and their help, the comments in ``config/task.env`` and the reference table in the
documentation are made from these fields.
"""

from dataclasses import dataclass

from taskfleet.settings.declaring import setting
from taskfleet.settings.parsers import (
    auto,
    choice,
    delays_by_kind,
    feather_file,
    function_name,
    job_name,
    number,
    optional,
    queue_url,
    start_method,
    switch,
    text,
    whole,
)
from taskfleet.settings.rms_names import retries


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a job and its workers; ``settings.reader`` creates an instance."""

    job_id: str = setting(
        "job",
        "Name of the job; the ledger, queues and machines are named after it.",
        job_name,
        metavar="NAME",
        default="job",
        aliases={"RMS_CLOUD_TASKS_JOB_ID": text},
    )
    queue_url: str = setting(
        "job",
        "Queue of the tasks: 'ledger' (in the ledger file), 'server' (of 'poe start_queue'), sqs://NAME, pubsub://PROJECT/NAME or "
        "postgresql://USER@HOST/DATABASE.",
        queue_url,
        metavar="URL",
        default="ledger",
        aliases={"TASKQUEUE_PATH": text},
    )
    ledger_path: str = setting(
        "job",
        "Ledger file (SQLite), one per job; {job_id} is replaced with the job's name.",
        text,
        metavar="FILE",
        default="jobs/{job_id}.db",
        is_path=True,
    )
    shared_ledger: bool | None = setting(
        "job",
        "Whether several hosts use the ledger over a shared file system; 'auto' checks the file system when the ledger is created.",
        auto(switch),
        metavar="BOOL",
        default="auto",
    )
    task_function: str = setting(
        "job",
        "Function that runs one task, as module:function.",
        function_name,
        metavar="NAME",
        default="task:run_task",
    )
    output_path: str | None = setting(
        "job",
        "Folder or bucket that is passed to functions with a parameter 'output_path', and to filter_tasks.",
        optional(text),
        metavar="PATH",
        aliases={"CF_CLOUDPATH": text},
    )
    results_path: str | None = setting(
        "job",
        "Folder or bucket (s3://, gs://) for results of graph tasks that are larger than 64 KiB; empty: a folder beside the ledger, or "
        "with a service queue BUCKET/JOB_ID/results.",
        optional(text),
        metavar="PATH",
        is_path=True,
    )
    on_change: str = setting(
        "job",
        "What a flow does with tasks that other code has done: 'keep', 'rerun', or 'failed' to run only failed ones again; 'ask' asks on "
        "a terminal, and is like 'failed' elsewhere.",
        choice("ask", "keep", "failed", "rerun"),
        metavar="WORD",
        default="ask",
    )
    task_table: str = setting(
        "insert",
        "Table of tasks: a Feather, Parquet, CSV, JSON, JSON Lines or YAML file (local path, s3://, gs:// or https://), "
        "or a generator function, as module:function.",
        text,
        metavar="TABLE",
        default="tasks.json",
        aliases={"RMS_CLOUD_TASKS_TASK_FILE": text, "TASK_PARAMETER_FILENAME": feather_file},
        is_path=True,
    )
    start_task: int = setting("insert", "Skip the first N rows of the table.", whole(0), metavar="N", default="0")
    insert_limit: int | None = setting(
        "insert", "Insert at most N rows.", optional(whole(1)), metavar="N", flag="--limit"
    )
    tasks_per_message: int | None = setting(
        "insert",
        "Tasks per message in a service queue; 'auto' chooses by the number of tasks and their duration.",
        auto(whole(1, 1000)),
        metavar="N",
        default="auto",
    )
    slots: int | None = setting(
        "worker",
        "Concurrent tasks per worker; 'auto' is one per CPU.",
        auto(whole(1, 4096)),
        metavar="N",
        default="auto",
        aliases={"RMS_CLOUD_TASKS_NUM_TASKS_PER_INSTANCE": text},
    )
    mpi_processes: int | None = setting(
        "worker",
        "MPI processes that call TASK_FUNCTION together for each task, with the parameter 'mpicomm'; a task takes as many slots. Apps of "
        "a flow have mpi= instead. Empty: no MPI.",
        optional(whole(1, 4096)),
        metavar="N",
    )
    mpi_launcher: str | None = setting(
        "worker",
        "Command that starts {n} MPI processes, such as 'mpirun --oversubscribe -np {n}'. Empty: srun inside a Slurm job, mpiexec "
        "elsewhere.",
        optional(text),
        metavar="COMMAND",
    )
    tasks_per_process: int = setting(
        "worker",
        "Tasks that a process runs before it is replaced; 1 isolates each task, 0 never replaces it (for tasks of milliseconds).",
        whole(0),
        metavar="N",
        default="1",
    )
    start_method: str = setting(
        "worker",
        "How task processes start: 'fork' from a process that has already imported your module, or 'spawn' or 'forkserver' as in "
        "Python's multiprocessing, where each process imports it; 'auto' is fork on Linux, or forkserver if your module starts threads "
        "when it is imported, and spawn on other systems.",
        start_method,
        metavar="METHOD",
        default="auto",
    )
    max_concurrent_tasks: int | None = setting(
        "worker",
        "Concurrent tasks over all workers of a manager (without managers, of the job); only with QUEUE_URL=ledger. Empty: no limit.",
        optional(whole(1)),
        metavar="N",
    )
    skip_tasks: int = setting(
        "worker",
        "Leave the first N tasks of the job to other workers.",
        whole(0),
        metavar="N",
        default="0",
        aliases={"RMS_CLOUD_TASKS_TO_SKIP": text},
    )
    max_tasks: int | None = setting(
        "worker",
        "Stop after N tasks.",
        optional(whole(1)),
        metavar="N",
        aliases={"RMS_CLOUD_TASKS_MAX_NUM_TASKS": text},
    )
    idle_seconds: float = setting(
        "worker",
        "Exit after receiving no task for this long; only with SQS and Pub/Sub, which report no exact queue length.",
        number(0),
        metavar="SECONDS",
        default="60",
    )
    keep_waiting: bool = setting(
        "worker", "Wait for new tasks when all are done, instead of exiting.", switch, metavar="BOOL", default="false"
    )
    simulate_spot_termination_after_seconds: float | None = setting(
        "worker",
        "Simulate a spot termination notice this long after the start; for tests.",
        optional(number(0)),
        metavar="SECONDS",
        flag="--simulate-spot-termination-after",
        aliases={"RMS_CLOUD_TASKS_SIMULATE_SPOT_TERMINATION_AFTER": text},
    )
    simulate_spot_termination_delay_seconds: float = setting(
        "worker",
        "Time from the simulated notice until running tasks are killed.",
        number(0),
        metavar="SECONDS",
        default="30",
        flag="--simulate-spot-termination-delay",
        aliases={"RMS_CLOUD_TASKS_SIMULATE_SPOT_TERMINATION_DELAY": text},
    )
    shutdown_grace_seconds: float = setting(
        "worker",
        "Time for running tasks to finish after Ctrl-C or SIGTERM, before they are interrupted and returned to the queue.",
        number(0),
        metavar="SECONDS",
        default="30",
        aliases={"RMS_CLOUD_TASKS_SHUTDOWN_GRACE_PERIOD": text},
    )
    cancel_grace_seconds: float = setting(
        "worker",
        "Time for a running task to finish after it was cancelled, before it is killed; meanwhile context.stopping is true.",
        number(0),
        metavar="SECONDS",
        default="0",
    )
    lease_seconds: float = setting(
        "worker",
        "Time after a worker's last heartbeat until its tasks go to another worker; it renews its lease three times in this time.",
        number(1),
        metavar="SECONDS",
        default="30",
        aliases={"TQ_LEASE_SECONDS": text},
    )
    max_runtime_seconds: float | None = setting(
        "limits",
        "Maximum run time of a task; its process is then killed. Empty: no limit.",
        optional(number(0, above=True)),
        metavar="SECONDS",
        aliases={"RMS_CLOUD_TASKS_MAX_RUNTIME": text},
    )
    on_time_limit: str = setting(
        "limits",
        "What happens to a task that runs when its machine reaches its time limit (with PROVIDER=slurm): 'retry' puts it back into the "
        "queue, at no cost of a retry; 'kill' ends it as killed.",
        choice("retry", "kill"),
        metavar="WORD",
        default="retry",
    )
    memory_limit_gib: float | None = setting(
        "limits",
        "Maximum memory of a task, child processes included; its process is killed if it uses more. Empty: no limit.",
        optional(number(0, above=True)),
        metavar="GIB",
        aliases={"RMS_CLOUD_TASKS_MAX_MEMORY_ALLOWED_PER_TASK": text},
    )
    max_result_mib: float = setting(
        "limits",
        "Maximum size of a task's result, as JSON text.",
        number(0, 900, above=True),  # a value in SQLite has at most 1,000,000,000 bytes
        metavar="MIB",
        default="16",
    )
    output_tail_kib: float = setting(
        "limits",
        "How much of the end of a task's output (stdout and stderr) is kept; of each of the two for tasks of a graph.",
        number(0),
        metavar="KIB",
        default="8",
    )
    retries_on_exception: int = setting(
        "retries",
        "Retries after the task raised an exception.",
        whole(0, 900),
        metavar="N",
        default="0",
        aliases={"RMS_CLOUD_TASKS_RETRY_ON_EXCEPTION": retries},
    )
    retries_on_timeout: int = setting(
        "retries",
        "Retries after the task exceeded MAX_RUNTIME_SECONDS.",
        whole(0, 900),
        metavar="N",
        default="0",
        aliases={"RMS_CLOUD_TASKS_RETRY_ON_TIMEOUT": retries},
    )
    retries_on_exit: int = setting(
        "retries",
        "Retries after the task's process crashed.",
        whole(0, 900),
        metavar="N",
        default="1",
        aliases={"RMS_CLOUD_TASKS_RETRY_ON_EXIT": retries},
    )
    retries_on_memory: int = setting(
        "retries", "Retries after the task exceeded MEMORY_LIMIT_GIB.", whole(0, 900), metavar="N", default="0"
    )
    retries_on_lost: int = setting(
        "retries",
        "Retries after the task's worker or machine died. The first loss does not count, because the task may not have started; "
        "0: no retry at all.",
        whole(0, 900),
        metavar="N",
        default="5",
    )
    retries_on_request: int = setting(
        "retries", "Retries that the task itself requests (raise Retry).", whole(0, 900), metavar="N", default="10"
    )
    retry_delay_seconds: float = setting(
        "retries",
        "Delay before the first retry; it doubles with each further retry of the same kind.",
        number(0),
        metavar="SECONDS",
        default="1",
    )
    retry_delay_max_seconds: float = setting(
        "retries", "Maximum delay before a retry.", number(0), metavar="SECONDS", default="300"
    )
    retry_delays: tuple[tuple[str, float, float | None], ...] = setting(
        "retries",
        "Delays in seconds for single kinds of failure, as kind=first..maximum: 'exit=10..600 timeout=60'. Lost tasks are delayed only "
        "if listed here.",
        delays_by_kind,
        metavar="LIST",
    )
    event_file: str | None = setting(
        "watch",
        "Append every event to this file, as one JSON object per line.",
        optional(text),
        metavar="FILE",
        is_path=True,
        aliases={"RMS_CLOUD_TASKS_EVENT_LOG_FILE": text},
    )
    progress_seconds: float = setting(
        "watch",
        "Interval between the progress lines of a worker without a terminal.",
        number(0, above=True),
        metavar="SECONDS",
        default="10",
    )
    verbose: bool = setting(
        "watch", "Print log messages (as -v) and a line for every attempt.", switch, metavar="BOOL", default="false"
    )
