"""The progress bar of a command that inserts or sends tasks."""

import sys
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from taskfleet.text import harmless


def print_above(text: str) -> None:
    """Print a text to standard error, above a bar if there is one."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a message to standard error, above a bar if there is one; with the time unless that is a terminal."""
    stamp = "" if sys.stderr.isatty() else f"{datetime.now():%H:%M:%S}  "
    print_above(f"{stamp}{harmless(text)}")


class Bar:
    """The progress and the time left, on standard error if that is a terminal; nothing elsewhere. For a ``with`` statement.

    Args:
        description: The activity, as one word.
        unit: What is counted, in the singular.
    """

    def __init__(self, description: str, unit: str) -> None:
        self._description = description
        self._unit = unit
        self._bar: Any = None

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def show(self, done: int, total: int | None) -> None:
        """Show that this many units are done, of a total if that is known."""
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                unit=self._unit,
                unit_scale=True,
                desc=self._description,
                dynamic_ncols=True,
                leave=False,
            )
        self._bar.update(done - self._bar.n)
