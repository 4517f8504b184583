"""How much work to prefetch for a worker, and to hand to a slot at a time: functions of the measured time a task takes."""

from dataclasses import dataclass

#: Prefetched for the whole worker, in seconds of work; beyond it another worker might be idle meanwhile.
PREFETCH_SECONDS = 2.0
#: Handed to one slot at a time.
SLOT_SECONDS = 0.1
MOST_PER_SLOT = 256
MOST_PREFETCHED = 4096
MOST_PREFETCHED_BYTES = 32 << 20
#: What a process per task costs beyond the task itself; only the order of magnitude matters.
PROCESS_SECONDS = 0.0005
SMALLEST_SECONDS = 0.000005


@dataclass(slots=True)
class Prefetch:
    """Keeps the measurements of one worker."""

    slots: int
    tasks_per_process: int
    """0 for no end."""
    mean_seconds: float | None = None
    """Time per task in a slot, None before the first has finished."""
    mean_bytes: float = 0.0
    """Size of a task's data."""
    start_seconds: float = 0.0
    """What starting the process costs each task, beyond a fork."""

    def measure_start(self, seconds: float) -> None:
        """Take into account how long a process takes to start, beyond a fork."""
        if self.tasks_per_process:
            self.start_seconds = seconds / self.tasks_per_process

    def measure(self, elapsed_seconds: list[float]) -> None:
        """Take the durations of some finished tasks into account."""
        if not elapsed_seconds:
            return
        overhead = PROCESS_SECONDS if self.tasks_per_process == 1 else SMALLEST_SECONDS
        mean = sum(elapsed_seconds) / len(elapsed_seconds) + overhead + self.start_seconds
        self.mean_seconds = mean if self.mean_seconds is None else 0.7 * self.mean_seconds + 0.3 * mean

    def measure_bytes(self, sizes: list[int]) -> None:
        """Take the sizes of some leased tasks into account."""
        if sizes:
            self.mean_bytes = max(sum(sizes) / len(sizes), 0.5 * self.mean_bytes)

    @property
    def per_slot(self) -> int:
        """How many tasks a slot is handed at a time; 1 while nothing is known, and for long tasks."""
        if self.mean_seconds is None:
            return 1
        return self._bounded(SLOT_SECONDS / self.mean_seconds, MOST_PER_SLOT)

    @property
    def size(self) -> int:
        """How many tasks to hold beyond those in the slots; 0 for long tasks."""
        if self.mean_seconds is None or self.mean_seconds > PREFETCH_SECONDS / 4:
            return 0
        return self._bounded(PREFETCH_SECONDS / self.mean_seconds * self.slots, MOST_PREFETCHED)

    def _bounded(self, wanted: float, most: int) -> int:
        if self.mean_bytes:
            most = min(most, int(MOST_PREFETCHED_BYTES / self.mean_bytes))
        return max(1, min(int(wanted), most))
