"""The bar that a command shows on a terminal while it inserts or sends tasks."""

import sys
from typing import Any


class Bar:
    """How much is done, and the time left, on standard error if that is a terminal; nothing elsewhere.

    Args:
        description: What is done, as one word.
        unit: What is counted, one of it.
    """

    def __init__(self, description: str, unit: str) -> None:
        self._description = description
        self._unit = unit
        self._bar: Any = None

    def show(self, done: int, total: int | None) -> None:
        """Show that this much is done, of a total if that is known."""
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

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
