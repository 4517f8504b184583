"""Format exceptions in user code: one line, and the traceback without the library's own frames."""

import os
import traceback

MAX_ERROR_BYTES = 64 * 1024
#: Maximum length of an error's first line, which lists and reports show; the traceback has the rest.
MAX_FIRST_LINE = 500


def describe_error(error: BaseException) -> bytes:
    """Return an error as one line, followed by the traceback without the library's own frames."""
    try:
        summary = "".join(traceback.format_exception_only(error)).strip()
    except Exception:  # a broken __str__ must not hide the error
        summary = type(error).__name__
    first = summary.splitlines()[0] if summary else type(error).__name__
    try:
        if isinstance(error, SystemExit):
            first = f"SystemExit: the task called sys.exit({error.code!r})"
        own = (
            os.path.join(os.path.dirname(__file__), ""),
            os.path.join(os.path.dirname(os.__file__), "importlib", ""),
            "<frozen importlib",
        )
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(own):
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace, limit=-50) if trace is not None else []
        if isinstance(error, SyntaxError) and not lines:  # of the module itself: its own line is all there is to show
            first, lines = f"{type(error).__name__}: {error}", [summary, "\n"]
    except Exception:
        lines = []
    if len(first) > MAX_FIRST_LINE:
        first = f"{first[:MAX_FIRST_LINE]}…"
    return shorten_error(first if not lines else first + "\n" + "".join(lines))


def shorten_error(text: str) -> bytes:
    """Encode an error's text; remove its middle if it is very long."""
    encoded = text.encode("utf-8", errors="backslashreplace")
    if len(encoded) > MAX_ERROR_BYTES:
        half = MAX_ERROR_BYTES // 2
        encoded = encoded[:half] + "\n… cut …\n".encode() + encoded[-half:]
    return encoded
