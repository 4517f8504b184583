"""Support functions written for rms-cloud-tasks: ``from taskfleet.rms import WorkerData`` replaces their own import."""

from taskfleet.context import TaskContext


class WorkerData:
    """The third argument of such a function, with the attribute names that it expects."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self.args = context.args
        self.job_id = context.job_id
        self.queue_name = context.job_id
        self.num_cpus = context.cpu_count
        self.num_simultaneous_tasks = context.slots
        self.max_runtime = context.max_runtime_seconds
        self.max_memory_allowed_per_task = context.memory_limit_gib

    @property
    def received_termination_notice(self) -> bool:
        """Whether a termination notice for the machine was received."""
        return self._context.terminating

    @property
    def received_shutdown_request(self) -> bool:
        """Whether the worker is stopping."""
        return self._context.stopping
