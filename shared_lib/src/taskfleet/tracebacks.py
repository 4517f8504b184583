"""Format exceptions in user code: one line, and the traceback without the library's own frames. Secrets are redacted."""

import os
import sysconfig
import traceback

from taskfleet.redaction import redact

MAX_ERROR_BYTES = 64 * 1024
#: Maximum length of an error's first line, which lists and reports show; the traceback has the rest.
MAX_FIRST_LINE = 500


def describe_users_error(error: BaseException) -> str:
    """Return an error as one line, followed by the traceback's entries for the user's own files."""
    try:
        lines = traceback.format_exception_only(error)
        at = next(number for number, line in enumerate(lines) if not line.startswith("  "))
        where, first = lines[:at], lines[at].splitlines()[0]  # of a syntax error, the lines before it show where
    except Exception:  # a broken __str__ must not hide the error
        where, first = [], type(error).__name__
    installed = _installed_prefixes()
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith(installed)]
    return "\n".join([first[:MAX_FIRST_LINE], *"".join([*traceback.format_list(frames), *where]).splitlines()])


def _installed_prefixes() -> tuple[str, ...]:
    """Return how the paths of files begin that are not the user's: those of this library, Python and installed packages."""
    folders = [os.path.dirname(__file__), *(sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib"))]
    return ("<frozen", *(os.path.join(folder, "") for folder in folders))


def describe_error(error: BaseException) -> bytes:
    """Return an error as one line, followed by the traceback without the library's own frames."""
    try:
        summary = "".join(traceback.format_exception_only(error)).strip()
    except Exception:  # a broken __str__ must not hide the error
        summary = type(error).__name__
    first = summary.splitlines()[0] if summary else type(error).__name__
    try:
        if isinstance(error, SystemExit):
            first = getattr(error, "reason", f"SystemExit: the task called sys.exit({error.code!r})")
        own = (
            os.path.join(os.path.dirname(__file__), ""),
            os.path.join(os.path.dirname(os.__file__), "importlib", ""),
            "<frozen importlib",
        )
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(own):
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace, limit=-50) if trace is not None else []
        if isinstance(error, SyntaxError) and not lines:  # in the imported file itself, so there is no frame to show
            first, lines = f"{type(error).__name__}: {error}", [summary, "\n"]
    except Exception:
        lines = []
    if len(first) > MAX_FIRST_LINE:
        first = f"{first[:MAX_FIRST_LINE]}…"
    return shorten_error(first if not lines else first + "\n" + "".join(lines))


def shorten_error(text: str) -> bytes:
    """Encode an error's text, with secrets redacted and without its middle if it is very long."""
    # Before redacting, which takes time. More is kept than below, so that a secret at the cut is still recognized.
    if len(text) > 2 * MAX_ERROR_BYTES:
        text = text[:MAX_ERROR_BYTES] + text[-MAX_ERROR_BYTES:]
    encoded = redact(text).encode("utf-8", errors="backslashreplace")
    if len(encoded) > MAX_ERROR_BYTES:
        half = MAX_ERROR_BYTES // 2
        encoded = encoded[:half] + "\n… cut …\n".encode() + encoded[-half:]
    return encoded
