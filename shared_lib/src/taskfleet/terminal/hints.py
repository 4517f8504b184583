"""What to do next, at the end of what a command prints."""

from taskfleet.invocation import poe


def next_steps(*steps: tuple[str, str] | str) -> str:
    """Return the commands that come next, one a line, each with what it is for behind it.

    Args:
        *steps: Commands as after ``poe``, or each with its purpose, a few words.
    """
    pairs = [(poe(step), "") if isinstance(step, str) else (poe(step[0]), step[1]) for step in steps]
    width = max(len(command) for command, _ in pairs)
    lines = [f"{command:<{width}}  {purpose and f'({purpose})'}".rstrip() for command, purpose in pairs]
    return "Next: " + "\n      ".join(lines)
