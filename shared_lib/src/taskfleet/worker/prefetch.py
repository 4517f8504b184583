"""Compute how many tasks to prefetch for a worker and to assign to a slot at once, from the measured duration of tasks."""

from dataclasses import dataclass

#: Work to prefetch for the whole worker; more could leave other workers idle.
PREFETCH_SECONDS = 2.0
#: Work to assign to a slot at once.
SLOT_SECONDS = 0.1
MOST_PER_SLOT = 256
MOST_PREFETCHED = 4096
MOST_PREFETCHED_BYTES = 32 << 20
#: Overhead of a process per task; only the order of magnitude matters.
PROCESS_SECONDS = 0.0005
SMALLEST_SECONDS = 0.000005


@dataclass(slots=True)
class Prefetch:
    """The measurements of one worker."""

    slots: int
    tasks_per_process: int
    """0 for no limit."""
    mean_seconds: float | None = None
    """Average time per task in a slot; None before the first has finished."""
    longest_seconds: float = 0.0
    """Of the tasks that have finished; 0 before the first."""
    mean_bytes: float = 0.0
    """Average size of a task's data."""
    start_seconds: float = 0.0
    """Time per task for starting its process, beyond a fork."""

    def measure_start(self, seconds: float) -> None:
        """Record how long a process takes to start, beyond a fork."""
        if self.tasks_per_process:
            self.start_seconds = seconds / self.tasks_per_process

    def measure(self, elapsed_seconds: list[float]) -> None:
        """Record the durations of finished tasks."""
        if not elapsed_seconds:
            return
        overhead = PROCESS_SECONDS if self.tasks_per_process == 1 else SMALLEST_SECONDS
        self.longest_seconds = max(self.longest_seconds, *elapsed_seconds)
        mean = sum(elapsed_seconds) / len(elapsed_seconds) + overhead + self.start_seconds
        self.mean_seconds = mean if self.mean_seconds is None else 0.7 * self.mean_seconds + 0.3 * mean

    def measure_bytes(self, sizes: list[int]) -> None:
        """Record the data sizes of leased tasks."""
        if sizes:
            self.mean_bytes = max(sum(sizes) / len(sizes), 0.5 * self.mean_bytes)

    @property
    def per_slot(self) -> int:
        """How many tasks to assign to a slot at once; 1 before the first measurement, and for long tasks."""
        if self.mean_seconds is None:
            return 1
        return self._bounded(SLOT_SECONDS / self.mean_seconds, MOST_PER_SLOT)

    @property
    def size(self) -> int:
        """How many tasks to hold in addition to those in the slots; 0 for long tasks."""
        if self.mean_seconds is None or self.mean_seconds > PREFETCH_SECONDS / 4:
            return 0
        return self._bounded(PREFETCH_SECONDS / self.mean_seconds * self.slots, MOST_PREFETCHED)

    def _bounded(self, wanted: float, most: int) -> int:
        if self.mean_bytes:
            most = min(most, int(MOST_PREFETCHED_BYTES / self.mean_bytes))
        return max(1, min(int(wanted), most))
