"""Limits of tables, so that no file needs more memory or disk space than machines have; docs/guide.md states them."""

MAX_ROW_BYTES = 8 << 20
"""The longest row of a text format, also after the expansion of YAML aliases."""

MAX_COLUMNS = 10_000

BATCH_BYTES = 64 << 20
"""A batch ends when its rows have this size in the file, even if they are few."""

MAX_DIGITS = 4300
"""Of an integer: Python reads and writes no longer ones by default (``sys.int_info.default_max_str_digits``)."""

MAX_DOWNLOAD_BYTES = 16 << 30


class TooLargeError(Exception):
    """A row is longer than MAX_ROW_BYTES."""

    def __str__(self) -> str:
        """Return the limit and what to do."""
        return f"a row may have at most {MAX_ROW_BYTES >> 20} MiB. Store long values in files, and write their paths."
