"""A digest of a function's code, by which calls of changed code become other tasks.

What counts is the normalised syntax of the function as it was when it was decorated, and of the functions, classes and plain values of the
script that it reaches by global name, by default value or from the function around it. Installed packages count with their names only. A
script may define several functions of one name one after the other, as notebooks do, so it is the function objects that are looked at.
"""

import ast
import inspect
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

from taskfleet.code_versions.syntax import FUNCTIONS, digest_of, normalise, notation

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


#: Returns the digest of an object; the second argument does so for the functions, classes and sets that the object has.
ObjectDigest = Callable[[Any, Callable[[Any], str]], str]


def code_digest(function: Any, object_digest: ObjectDigest | None = None) -> str:
    """Return the digest of a function's code.

    Args:
        function: The function.
        object_digest: Returns the digest of an object that the function holds or reaches and that is neither plain nor code; such objects
            then count, and so do two lambdas on one line as two. None to count only their types.
    """
    return _Digest(object_digest).of(function)


class _Digest:
    def __init__(self, object_digest: ObjectDigest | None) -> None:
        self._object_digest = object_digest
        self._seen: set[int] = set()

    def of(self, value: Any) -> str:
        """Return the digest of a function or another value."""
        own = getattr(value, "function", None)  # of an app
        if isinstance(own, types.FunctionType):
            value = own
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        if isinstance(value, type):
            return self._of_class(value)
        if isinstance(value, types.ModuleType):
            return digest_of(value.__name__)
        if isinstance(value, _PLAIN):
            return digest_of(repr(value))
        if isinstance(value, list | tuple):
            return digest_of(type(value).__name__, *map(self.of, value))
        if isinstance(value, dict):
            return digest_of("dict", *(self.of(part) for item in value.items() for part in item))
        if self._object_digest is None:
            return digest_of(type(value).__qualname__)
        if isinstance(value, set | frozenset):
            return digest_of(type(value).__name__, *sorted(map(self.of, value)))
        return digest_of(type(value).__qualname__, self._object_digest(value, self.of))

    def _of_class(self, one: type) -> str:
        if not _is_own(one) or source_of(one):
            return digest_of(_syntax(one) if _is_own(one) else "", one.__qualname__)
        if id(one) in self._seen:
            return digest_of(one.__qualname__)
        self._seen.add(id(one))
        parts = [one.__qualname__, *map(self.of, one.__bases__)]
        for name, member in sorted(vars(one).items()):  # a session has no source of classes
            for part in (member.fget, member.fset) if isinstance(member, property) else (member,):
                part = getattr(part, "__func__", part)  # of a class method or a static one
                is_value = isinstance(part, (*_PLAIN, list, tuple, dict)) and not name.startswith("__")
                if is_value or isinstance(part, types.FunctionType):
                    parts += [name, self.of(part)]
        return digest_of(*parts)

    def _of_function(self, function: types.FunctionType) -> str:
        if not _is_own(function):
            return digest_of(function.__module__, function.__qualname__)
        if id(function) in self._seen:
            return digest_of(function.__qualname__)
        self._seen.add(id(function))
        parts = [_syntax(function)]
        if self._object_digest is not None and "<" in function.__qualname__:  # the statement may have several of them
            parts.append(_bytecode(function.__code__))
        for name in sorted(set(_names(function.__code__))):
            if name in function.__globals__:
                parts += [name, self.of(function.__globals__[name])]
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            parts.append(self.of(default))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                parts += [name, self.of(cell.cell_contents)]
            except ValueError:  # not assigned yet
                continue
        return digest_of(*parts)


def source_of(function: Any) -> str:
    """Return the source text of a function or class, an empty text if there is none."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""


def imported_modules(function: Any) -> list[str]:
    """Return the top-level modules that a function imports, or reaches by global name."""
    found = {
        value.__name__.partition(".")[0]
        for name in _names(function.__code__)
        if isinstance(value := function.__globals__.get(name), types.ModuleType)
    }
    for node in ast.walk(_parsed(source_of(function)) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            found.update(one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return sorted(found)


def _syntax(function: Any) -> str:
    tree = _parsed(source_of(function))
    if tree is not None and isinstance(function, types.FunctionType) and function.__name__ == "<lambda>":
        tree = next((node for node in ast.walk(tree) if isinstance(node, ast.Lambda)), None)
    if tree is None:
        code = getattr(function, "__code__", None)
        return function.__qualname__ if code is None else _bytecode(code)
    if isinstance(tree, (*FUNCTIONS, ast.ClassDef)):
        tree.decorator_list = []
    normalise(tree)
    return notation(tree)


def _parsed(source: str) -> ast.AST | None:
    """Return the first statement of a source text; None if it is none of its own, such as a part of an expression."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    return body[0] if body else None


def _bytecode(code: types.CodeType) -> str:
    return digest_of(code.co_code.hex(), *code.co_names, *map(_constant, code.co_consts))


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _bytecode(value)
    if isinstance(value, frozenset):  # whose order differs from run to run
        return f"frozenset {sorted(map(repr, value))}"
    return repr(value)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from _names(one)


def _is_own(value: Any) -> bool:
    """Return whether a function or class is not one of an installed package."""
    try:
        path = inspect.getsourcefile(value) or ""
    except (TypeError, OSError):  # a built-in class, or one of a session
        return getattr(value, "__module__", None) == "__main__"
    return not path.startswith(_INSTALLED)
