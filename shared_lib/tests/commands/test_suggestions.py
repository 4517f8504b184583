"""Every command that a message of the library suggests exists, and takes the flags and operands that are suggested with it."""

import ast
import shlex
from pathlib import Path

import pytest
import taskfleet
from taskfleet.terminal.registry import COMMANDS

ROOT = Path(taskfleet.__file__).parent


def texts(node):
    """Yield the texts of a suggestion: of a literal, of one with values in it (which become 1), and of each branch of a choice."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            yield "".join(part.value if isinstance(part, ast.Constant) else "1" for part in values)
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body)
            yield from texts(orelse)
        case ast.Tuple(elts=[first, *_]):
            yield from texts(first)


def suggestions():
    """Return each suggested command with the files that suggest it."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "")
            if name not in ("poe", "next_steps") or path.name in ("hints.py", "invocation.py"):
                continue
            for argument in node.args:
                for text in texts(argument):
                    found.setdefault(text, set()).add(str(path.relative_to(ROOT)))
    return found


SUGGESTED = suggestions()


def test_suggestions_are_found():
    assert len(SUGGESTED) > 25
    assert {"insert_tasks", "launch_worker", "retry --failed", "results -o results.feather"} <= SUGGESTED.keys()


@pytest.mark.parametrize("text", sorted(SUGGESTED))
def test_a_suggested_command_is_understood(poe, text):
    """Its line is parsed as a whole, and only the file of settings, which does not exist, is refused."""
    name, *words = shlex.split(text)
    assert name in COMMANDS, SUGGESTED[text]
    answer = poe(name, *words, "-e", "no-such-file.env")
    assert answer.code == 2, SUGGESTED[text]
    assert "-e no-such-file.env: no such file" in answer.err, answer.err
    assert "usage:" not in answer.err, answer.err
