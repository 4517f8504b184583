"""For whole projects: every mutation of what is reached changes the version, no other does, and no way of formatting does."""

import ast
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskfleet.code_versions import source_files
from taskfleet.code_versions.describing import describe_code
from taskfleet.code_versions.source_files import parse

from shared_lib.tests.code_versions.projects import imported, version, write

SOURCE = Path(__file__).resolve().parents[2] / "src"

TASK = '''
"""A project with all kinds of syntax."""
from __future__ import annotations
import dataclasses, functools
import helper as h
from package import tools
from package.more import *

LIMIT, STEP = 1_000, 0x10
TABLE = {"a": 1.5, "b": (2j, -3), **{"c": None}}
TABLE["d"] = b"bytes\\\\n"
IDLE = 99
if LIMIT > 10: FACTOR = 7
else: FACTOR = 8


@dataclasses.dataclass(frozen=True)
class Row:
    """One row."""
    x: int = 4
    y: list[int] = dataclasses.field(default_factory=lambda: [5, *range(6)])

    @property
    def size(self) -> float:
        return self.x ** -2 if self.y else not self.x


def decorate(times):
    def around(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            return f(*args, **kwargs) * times
        return wrapper
    return around


@decorate(11)
def run(seed: int, /, *more, scale=STEP, **options) -> str:
    """Do it."""
    total, rest = 0, []
    for i in range(seed):
        if i % 12 == 3 and not rest or i > 40:
            continue
        while (total := total + i) < LIMIT:
            total += h.scaled(i) @ Matrix(FACTOR)
            break
        else:
            del rest[1:2]
    try:
        rest = [tools.shift(a) for a in more if a is not None]
    except (ValueError, KeyError) as error:
        raise RuntimeError(f"{error!r:>{scale}} and {total=:.3f} {{}}" "more \\x00\\u2028\\U0001f600") from error
    finally:
        with open("x") as file, open("y"):
            rest.append(file)
    match options:
        case {"a": [1, 2, *others], **remaining} if others:
            total = lambda x, y=13: x <= y != 5
        case Row(x=-1) | None:
            async def inner():
                async for z in seed: yield await z
    return f"{star(total)}{TABLE[LIMIT:1]}" if Row() else rest[0, ::2]


class Matrix(h.Base):
    def __rmatmul__(self, other): return other >> 14


def not_called():
    return IDLE * 77
'''
FILES = {
    "task.py": TASK,
    "helper.py": """
OFFSET = 21
OTHER = 22
def scaled(x): return x * OFFSET + recursive(x)
def recursive(x): return x and scaled(x - 23)
class Base:
    kind = 24
    def method(self): return 25
class NotUsed:
    kind = 26
def unused(): return 27 - OTHER
""",
    "package/__init__.py": "NOT_READ = 31\n",
    "package/tools.py": "from . import more\ndef shift(x): return x << more.AMOUNT\ndef idle(): return 32\n",
    "package/more.py": "AMOUNT = 41\ndef star(x): return x | 42\ndef moon(x): return x & 43\n",
}
IDLE = {
    "task.py": {"IDLE", "not_called"},
    "helper.py": {"OTHER", "NotUsed", "unused"},
    "package/__init__.py": {"NOT_READ"},
    "package/tools.py": {"idle"},
    "package/more.py": {"moon"},
}
#: The digest of ``run`` in this project.
GOLDEN = "16833ffa701664279c33e46bbb3a48aa"
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
OPERATORS |= {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.Not: ast.Invert,
}
OPERATORS |= {
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.Pow: ast.Mult,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS |= {ast.MatMult: ast.Mult, ast.LtE: ast.Lt}


def digest(folder, files):
    """Returns the digest of ``run``, without running the project's code, most of which could not run after a mutation."""
    project = write(folder, files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        code = compile((project / "task.py").read_text(), str(project / "task.py"), "exec")
    [function] = [one for one in code.co_consts if getattr(one, "co_name", "") == "run"]
    return describe_code(type(digest)(function, {}), project).digest


def mutations(text):
    """Generates mutated texts of a module, each with the line of the mutation; text of annotations and docstrings is not mutated."""
    tree = ast.parse(text)
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left_out.add(node.value)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            hints = [node.returns, *(one.annotation for one in [*node.args.posonlyargs, *node.args.args])]
            left_out.update(part for one in hints if one for part in ast.walk(one))
    for top in tree.body:
        for node in ast.walk(top):
            if node in left_out:
                continue
            if isinstance(node, ast.Constant) and node.value is not Ellipsis:
                before = node.value
                node.value = {str: "mutated", bytes: b"mutated"}.get(type(before), 12345)
                yield top, f"constant {before!r}", ast.unparse(tree)
                node.value = before
            for field in ("op", "ops"):
                held = getattr(node, field, None)
                if held is None:
                    continue
                first = held[0] if isinstance(held, list) else held
                if type(first) in OPERATORS:
                    new = OPERATORS[type(first)]()
                    setattr(node, field, [new, *held[1:]] if isinstance(held, list) else new)
                    yield top, f"operator {type(first).__name__}", ast.unparse(tree)
                    setattr(node, field, held)


def names_of(statement):
    if isinstance(statement, ast.Assign):
        return {one.id for target in statement.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return {getattr(statement, "name", "")}


@pytest.mark.parametrize("name", FILES)
def test_every_mutation_of_what_is_reached_changes_the_version_and_no_other_does(tmp_path, name):
    before = digest(tmp_path, FILES)
    wrong, count = [], 0
    for statement, what, text in mutations(FILES[name]):
        if isinstance(statement, ast.ImportFrom | ast.Import):
            continue
        count += 1
        is_idle = names_of(statement) <= IDLE[name]
        if (digest(tmp_path, FILES | {name: text}) == before) != is_idle:
            wrong.append((names_of(statement), what))
    assert wrong == []
    assert count >= (60 if name == "task.py" else 1)


def with_comments(text, numbers):
    """Returns a text with comments and blank lines between the lines outside of texts."""
    lines = []
    for line in text.splitlines():
        if numbers.random() < 0.3:
            lines += ["", f"{' ' * numbers.randrange(9)}# {numbers.random()}"]
        lines.append(line + ("  # noted" if numbers.random() < 0.3 and '"""' not in line else ""))
    return "\n".join(lines) + "\n"


@given(st.integers(0, 2**32))
def test_no_way_of_formatting_changes_the_version(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("formatted", numbered=True)
    numbers = random.Random(seed)
    files = {}
    for name, text in FILES.items():
        text = ast.unparse(ast.parse(text)) if numbers.random() < 0.7 else text
        files[name] = with_comments(text, numbers)
    assert digest(folder, files) == digest(folder, FILES)
    shutil.rmtree(folder)


def test_deep_code_is_described(tmp_path):
    """Python's parser takes thousands of operators in a row, one below the other."""
    deep = "def run(): return " + " + ".join(["1"] * 2500)
    assert version(tmp_path, deep).digest != version(tmp_path, deep + " - 1").digest


PRINT = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from taskfleet.code_versions.describing import describe_code
project = Path(sys.argv[1])
code = compile((project / "task.py").read_text(), str(project / "task.py"), "exec")
[function] = [one for one in code.co_consts if getattr(one, "co_name", "") == "run"]
print(sorted(describe_code(type(lambda: 0)(function, {}), project).parts.items()))
"""


def other_pythons():
    """Returns the other versions of Python that are installed where pyenv or uv put them, or in PATH."""
    places = [Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python"]
    found = {}
    for minor in range(11, 20):
        paths = [one for place in places for one in place.glob(f"*/bin/python3.{minor}")]
        if at := shutil.which(f"python3.{minor}"):
            paths.append(Path(at))
        for path in paths:
            done = subprocess.run(
                [path, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
            )
            if done.returncode == 0:
                found.setdefault(done.stdout, path)
    return list(found.values())


def test_versions_stay_the_same_when_this_library_or_python_is_updated(tmp_path):
    """If the notation must change, this does as well, and all users are asked whether their unchanged code is to run again."""
    assert digest(tmp_path, FILES) == GOLDEN


def test_all_versions_of_python_agree(tmp_path):
    pythons = other_pythons()
    if len(pythons) < 2:
        pytest.skip(
            "only one version of Python from 3.11 on is installed; the test before this one is for each of them"
        )
    project = write(tmp_path, FILES)
    answers = {}
    for python in [sys.executable, *pythons]:
        done = subprocess.run(
            [python, "-c", PRINT, project, SOURCE], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}
        )
        assert done.returncode == 0, done.stderr
        answers[str(python)] = done.stdout
    assert len(set(answers.values())) == 1, answers


def test_a_thousand_functions_are_described_in_seconds_and_their_file_is_parsed_once(tmp_path, monkeypatch):
    """It takes 0.6 s of processor time; the bound only tells apart what grows with the square of the number of functions."""
    body = "    total = 0\n    for i in range(x):\n        if i % 3 and total < {n}:\n            total += i * LIMIT - f{m}(i - 1)\n"
    body += (
        "        else:\n            total -= [a + 1 for a in (i, total)][0]\n    return {{'a': total, 'b': str(x)}}\n"
    )
    parts = [
        "LIMIT = 3\n",
        *(f"def f{n}(x):\n{body.format(n=n, m=n + 1)}\n" for n in range(1000)),
        "def f1000(x): return x\n",
    ]
    project = write(tmp_path, {"task.py": "\n".join(parts)})
    parsed = []
    monkeypatch.setattr(source_files, "parse", lambda text, path: parsed.append(path) or parse(text, path))
    with imported(project, "task:f0") as function:
        started = time.process_time()
        found = describe_code(function, project)
        taken = time.process_time() - started
        assert describe_code(function, project) == found
    assert len(found.parts) == 1002
    assert parsed == [project / "task.py"]
    assert taken < 20
