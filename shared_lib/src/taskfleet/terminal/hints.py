"""The next commands, at the end of what a command prints."""

from taskfleet.invocation import poe
from taskfleet.tasks import State
from taskfleet.watch.status import Status


def next_steps(*steps: tuple[str, str] | str) -> str:
    """Return the next commands, one per line, each with its purpose.

    Args:
        *steps: Commands as after ``poe``, or each with its purpose, a few words.
    """
    pairs = [(poe(step), "") if isinstance(step, str) else (poe(step[0]), step[1]) for step in steps]
    width = max(len(command) for command, _ in pairs)
    lines = [f"{command:<{width}}  {purpose and f'({purpose})'}".rstrip() for command, purpose in pairs]
    return "Next: " + "\n      ".join(lines)


def before_worker(status: Status) -> list[tuple[str, str] | str]:
    """Return the commands without which a worker that is started now would end at once."""
    return [("resume", "lets tasks start again")] if status.is_paused else []


def after_job(status: Status) -> str:
    """Return the next commands when all tasks have ended."""
    results = "results -o results.feather"
    if not status.counts[State.FAILED]:
        return next_steps(results)
    return next_steps(
        ("tasks --state failed", "lists the failures"),
        ("retry --failed", "puts these tasks back into the queue"),
        (results, "writes results and failures"),
    )
