"""What the benchmarks share: seconds, memory, processes that surely end, tables, facts about the machine."""

import importlib.metadata
import json
import os
import platform
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent
MIB = 1 << 20

#: Nothing here takes longer; what does is ended with all it started.
PATIENCE_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has come to its end."""

    seconds: float
    """Wall time, from just before the start."""
    cpu_seconds: float
    """Processor time of the command and of the children it waited for."""
    peak_rss_mib: float
    """The most memory that it, or one child that it waited for, held at a time."""
    out: str


@dataclass(slots=True)
class Claims:
    """Collects what was measured beside what is meant to be, and prints it."""

    title: str
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, what: str, measured: str, target: str = "", met: bool | None = None) -> None:
        """Note one; ``met`` is None for what is shown only to compare."""
        self.rows.append((what, measured, target, {None: "", True: "yes", False: "NO"}[met]))
        print(f"  {what}: {measured}{f'   (target {target})' if target else ''}", file=sys.stderr, flush=True)

    def at_least(self, what: str, value: float, target: float, unit: str) -> None:
        """Note a number that should be high."""
        self.add(what, f"{number(value)} {unit}", f"≥ {number(target)} {unit}", value >= target)

    def at_most(self, what: str, value: float, target: float, unit: str) -> None:
        """Note a number that should be low."""
        self.add(what, f"{number(value)} {unit}", f"≤ {number(target)} {unit}", value <= target)

    def show(self) -> None:
        """Print all as a Markdown table."""
        print(
            f"\n### {self.title}\n\n{markdown(('what', 'measured', 'target', 'met'), self.rows)}\n\n{machine()}",
            flush=True,
        )


def number(value: float) -> str:
    """Write a number with three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table whose columns also line up in a terminal."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def machine(*distributions: str) -> str:
    """Say what the numbers depend on: cores, Python, versions; nothing that names the machine or the day."""
    facts = [f"{cores()} cores", f"{platform.python_implementation()} {platform.python_version()}"]
    facts += [f"SQLite {sqlite3.sqlite_version}", f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"]
    facts += [f"{name} {version}" for name in distributions if (version := version_of(name))]
    return ", ".join(facts) + "."


def version_of(distribution: str) -> str | None:
    """Give the version of an installed distribution, None if it is not there."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return None


def cores() -> int:
    """Give the number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="taskfleet-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(**more: str) -> dict[str, str]:
    """Give the environment for what is started: no settings of ours by accident, the tasks importable.

    Nor settings of Python: PYTHONDONTWRITEBYTECODE, say, has each command compile pandas anew.
    """
    from taskfleet.settings import describe

    settings = {name for field in describe() for name in (field.name, *field.aliases)}
    ignored = ("POE_", "BENCH_", "PYTHON", "VIRTUAL_ENV", "UV_RUN_")
    kept = {name: value for name, value in os.environ.items() if name not in settings and not name.startswith(ignored)}
    return kept | {"PYTHONPATH": str(BENCHMARKS), "PYTHONUNBUFFERED": "1"} | more


@contextmanager
def started(
    command: Sequence[str | Path], folder: Path, log: Path | None = None, **more: str
) -> Iterator[subprocess.Popen]:
    """Have a command run meanwhile; it, and all in its session, is ended afterwards."""
    log = log or folder / f"{Path(command[0]).name}.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen, patience_seconds: float = 5.0) -> None:
    """End a process and all in its session: asked first, then killed."""
    for sign, patience in ((signal.SIGTERM, patience_seconds), (signal.SIGKILL, 30.0)):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run(command: Sequence[str | Path], folder: Path, *, within: float = PATIENCE_SECONDS, **more: str) -> Ended:
    """Run a command to its end and measure it.

    Raises:
        RuntimeError: It failed or took too long; the text has the end of what it said.
    """
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed by _text
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )

    def give_up(*_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, within)
    try:
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    text = _text(out)
    if process.returncode:
        words = " ".join(str(part) for part in command)[:200]
        raise RuntimeError(
            f"{words} ended with {process.returncode} after {seconds:.1f} s:\n{(text + _text(err))[-2000:]}"
        )
    return Ended(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_rss_mib=usage.ru_maxrss / 1024,
        out=text,
    )


def _text(file: object) -> str:
    file.seek(0)
    text = file.read().decode(errors="replace")
    file.close()
    return text


def python(code_or_file: str | Path, *arguments: object) -> list[str]:
    """Give the command that runs a file, or a piece of code, with this interpreter."""
    how = [str(code_or_file)] if isinstance(code_or_file, Path) else ["-c", code_or_file]
    return [sys.executable, *how, *map(str, arguments)]


def peak_rss_mib(pid: int) -> float:
    """Give the most memory a living process has held so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


def best(values: Sequence[float]) -> str:
    """Write the median of some seconds as milliseconds, with the spread."""
    low, middle, high = (1000 * pick(values) for pick in (min, statistics.median, max))
    return f"{middle:.0f} ms ({low:.0f} to {high:.0f})"


def wait_until(is_so: Callable[[], bool], *, within: float = PATIENCE_SECONDS, every: float = 0.01) -> None:
    """Look again and again until something is so.

    Raises:
        RuntimeError: It was not in time.
    """
    deadline = time.monotonic() + within
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"still waiting after {within:g} s")
        time.sleep(every)


def begun_at(file: Path) -> float:
    """Say when the first of the processes that noted it began its first task."""
    return min(map(float, file.read_text().split()))


def say(text: str) -> None:
    """Tell whoever watches; the results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


def as_json(value: object) -> str:
    """Write a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False)
