"""The texts in the library's source, among them its SQL."""

import ast
from pathlib import Path

import taskfleet

SOURCE = Path(taskfleet.__file__).parent


def python_texts():
    """Yield the module and the text of every string in the library; what is put into it is ``{}``."""
    for path in SOURCE.rglob("*.py"):
        for text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(SOURCE).as_posix(), text


def sql_texts():
    """Yield the path and the text of every SQL file of the library."""
    for path in SOURCE.rglob("*.sql"):
        yield path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8")


def _texts(node):
    if isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for each in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(each, ast.Constant)):
            yield from _texts(each)
