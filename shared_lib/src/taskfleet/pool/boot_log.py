"""The progress of a machine's boot, from its console output.

Every stage of the start-up script (``start_up.sh``) prints two lines, among the output of the system::

    taskfleet-boot: 3.2 s  stage=project  begun
    taskfleet-boot: 4.6 s  stage=project  ok

The last output of a failed stage, or of the worker, follows in lines that begin with ``taskfleet-said:``.
"""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a machine's boot."""

    name: str
    began_seconds: float
    """Seconds after the script's start."""
    seconds: float | None
    """Its duration; None if it has not ended, or its beginning is no longer on the console."""
    ok: bool | None
    """Whether it succeeded; None if it has not ended."""
    text: str = ""
    """The last text about it."""


@dataclass(frozen=True, slots=True)
class BootLog:
    """The progress of a boot."""

    stages: tuple[Stage, ...]
    last_lines: tuple[str, ...] = ()
    """The last output of the first failed stage; if none has failed, of any stage, including the worker."""

    @property
    def failed(self) -> Stage | None:
        """The first failed stage; None if no stage has failed."""
        return next((stage for stage in self.stages if stage.ok is False), None)


_LINE = re.compile(r"taskfleet-boot: (\d+\.\d) s  stage=(\S+)  (\w+):?(?: +(.*))?")
_OUTPUT = re.compile(r"taskfleet-said: (.*)")
_LAST_LINES = 20
#: The keywords before the text of a line.
_WORDS = ("begun", "still", "ok", "failed")
#: The first and the last stage of each boot.
_FIRST, _END = "timer", "end"
_ERROR = re.compile(r"(?:\w+\.)*\w*(?:error|exception)\b", re.IGNORECASE)


def parse_stages(console: str) -> BootLog:
    """Return the stages of the last boot in a console output."""
    stages: dict[str, Stage] = {}
    output: dict[str, list[str]] = {}
    begun: set[str] = set()
    name = ""
    for line in console.splitlines():
        if match := _OUTPUT.search(line):
            output.setdefault(name, []).append(match[1].rstrip())
            continue
        found = _LINE.search(line)
        if found is None:
            continue
        at, name, word, text = float(found[1]), found[2], found[3], (found[4] or "").strip()
        if name == _FIRST and word == "begun":
            stages.clear()
            output.clear()
            begun.clear()
        if word == "begun":
            begun.add(name)
            output[name] = []
        before = stages.get(name)
        if word == "begun" or before is None:
            before = Stage(name=name, began_seconds=at, seconds=None, ok=None)
        is_end = word in ("ok", "failed")
        if word not in _WORDS:
            text = f"{word} {text}".strip()
        stages[name] = Stage(
            name=name,
            began_seconds=before.began_seconds,
            seconds=round(at - before.began_seconds, 1) if is_end and name in begun else before.seconds,
            ok=word == "ok" if is_end else before.ok,
            text=text if is_end or before.ok is None else before.text,
        )
    log = BootLog(tuple(stages.values()))
    lines = output.get(log.failed.name, []) if log.failed else next(filter(None, reversed(output.values())), [])
    return replace(log, last_lines=tuple(lines[-_LAST_LINES:]))


def summary(console: str) -> str:
    """Return the stage that the boot has reached or that failed with its error, and the durations of the stages before.

    Args:
        console: The console output.

    Returns:
        One or two sentences on one line; empty if the console has no line of the start-up script.
    """
    log = parse_stages(console)
    if not log.stages:
        return ""
    at = log.failed or log.stages[-1]
    before = [stage for stage in log.stages[: log.stages.index(at)] if stage.seconds is not None]
    times = ", ".join(f"{stage.name} {stage.seconds:g} s" for stage in before)
    return " ".join(filter(None, (_state(at, log), times and f"Stages before: {times}.")))


def report(console: str, lines: int) -> str:
    """Return the summary and the last lines of a console, indented; empty if the console is empty.

    Args:
        console: The console output.
        lines: The maximum number of lines.
    """
    last = console.strip().splitlines()[-lines:]
    if not last:
        return ""
    printed = "\n".join(["Its last console lines:", *(f"    {line}" for line in last)])
    return " ".join(filter(None, (summary(console), printed)))


def _state(at: Stage, log: BootLog) -> str:
    """Return a sentence about the stage that the boot has reached."""
    text = f" ({at.text})" if at.text else ""
    if at.ok is False:
        after = f" {at.began_seconds:g} s after its start" if at.seconds is None else f" after {at.seconds:g} s"
        return f"The start-up script failed in stage {at.name}{after}{text}{_error(log)}."
    if at.ok is None:
        return f"The start-up script is in stage {at.name}, which began {at.began_seconds:g} s after its start{text}."
    if at.name == _END:
        return f"The start-up script ended after {at.began_seconds:g} s{text}."
    took = "" if at.seconds is None else f" in {at.seconds:g} s"
    return f"The start-up script finished stage {at.name}{took}{text}, and has not begun the next one."


def _error(log: BootLog) -> str:
    """Return the last line with an error of a command (``error: ``), else the last that begins like an error, else the last line."""
    lines = [line for line in log.last_lines if line.strip()]
    if not lines:
        return ""
    errors = [line for line in lines if _ERROR.match(line)]
    own = [line for line in errors if line.startswith("error: ")]
    return f": {(own or errors or lines)[-1].strip().rstrip('.')}"
