"""How far a machine's boot came, read from its console and said in a sentence or two.

Every stage of the start-up script (``start_up.sh``) is two lines there, among whatever else the system prints::

    taskfleet-boot: 3.2 s  stage=project  begun
    taskfleet-boot: 4.6 s  stage=project  ok

and what a stage that failed, or the worker, has printed last comes in lines that begin with ``taskfleet-said:``.
"""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a machine's boot."""

    name: str
    began_seconds: float
    """After the script's start."""
    seconds: float | None
    """How long it took; None if it has not ended, or its beginning is not on the console any more."""
    ok: bool | None
    """Whether it ended well; None if it has not ended."""
    text: str = ""
    """What was said of it last."""


@dataclass(frozen=True, slots=True)
class BootLog:
    """What a console tells of a boot."""

    stages: tuple[Stage, ...]
    last_lines: tuple[str, ...] = ()
    """What the first stage that failed has printed last; if none has, what was printed last in any, the worker's included."""

    @property
    def failed(self) -> Stage | None:
        """The first stage that failed; None if none has."""
        return next((stage for stage in self.stages if stage.ok is False), None)


_LINE = re.compile(r"taskfleet-boot: (\d+\.\d) s  stage=(\S+)  (\w+):?(?: +(.*))?")
_SAID = re.compile(r"taskfleet-said: (.*)")
_LAST_LINES = 20
#: What stands before the text of a line and says what it means.
_WORDS = ("begun", "still", "ok", "failed")
#: The first stage of each boot, and the one that every boot ends with.
_FIRST, _END = "timer", "end"
_ERROR = re.compile(r"(?:\w+\.)*\w*(?:error|exception)\b", re.IGNORECASE)


def parse_stages(console: str) -> BootLog:
    """Read a console, among whatever else the system has printed there; of several boots, the last."""
    stages: dict[str, Stage] = {}
    said: dict[str, list[str]] = {}
    begun: set[str] = set()
    name = ""
    for line in console.splitlines():
        if told := _SAID.search(line):
            said.setdefault(name, []).append(told[1].rstrip())
            continue
        found = _LINE.search(line)
        if found is None:
            continue
        at, name, word, text = float(found[1]), found[2], found[3], (found[4] or "").strip()
        if name == _FIRST and word == "begun":
            stages.clear()
            said.clear()
            begun.clear()
        if word == "begun":
            begun.add(name)
            said[name] = []
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
    lines = said.get(log.failed.name, []) if log.failed else next(filter(None, reversed(said.values())), [])
    return replace(log, last_lines=tuple(lines[-_LAST_LINES:]))


def summary(console: str) -> str:
    """Return in words how far the boot came, which stage failed and with what, and how long the stages before it took.

    Args:
        console: What the machine has printed.

    Returns:
        One or two sentences on one line; empty if the start-up script has left no line there.
    """
    log = parse_stages(console)
    if not log.stages:
        return ""
    at = log.failed or log.stages[-1]
    before = [stage for stage in log.stages[: log.stages.index(at)] if stage.seconds is not None]
    times = ", ".join(f"{stage.name} {stage.seconds:g} s" for stage in before)
    return " ".join(filter(None, (_state(at, log), times and f"Before that: {times}.")))


def report(console: str, lines: int) -> str:
    """Return the summary and the last lines of a console, indented; empty if nothing is on it.

    Args:
        console: What the machine has printed.
        lines: How many at most.
    """
    last = console.strip().splitlines()[-lines:]
    if not last:
        return ""
    printed = "\n".join(["It printed at last:", *(f"    {line}" for line in last)])
    return " ".join(filter(None, (summary(console), printed)))


def _state(at: Stage, log: BootLog) -> str:
    """Return a sentence about the stage that the boot has come to."""
    text = f" ({at.text})" if at.text else ""
    if at.ok is False:
        after = f" {at.began_seconds:g} s after its start" if at.seconds is None else f" after {at.seconds:g} s"
        return f"The start-up script failed in its stage {at.name}{after}{text}{_error(log)}."
    if at.ok is None:
        return f"The start-up script has come to its stage {at.name}, begun {at.began_seconds:g} s after its start and not ended{text}."
    if at.name == _END:
        return f"The start-up script came to its end after {at.began_seconds:g} s{text}."
    took = "" if at.seconds is None else f" in {at.seconds:g} s"
    return f"The start-up script has been through its stage {at.name}{took}{text}, and not begun the next."


def _error(log: BootLog) -> str:
    """Return the most telling line of what was printed last: the last that begins like an error, else the last of all."""
    lines = [line for line in log.last_lines if line.strip()]
    if not lines:
        return ""
    return f": {next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1]).strip().rstrip('.')}"
