"""The code of function objects: of functions in files, of lambdas, closures and partials, and of functions without a file (notebooks)."""

import functools
import inspect
import linecache
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taskfleet.code_versions.code_walk import COMPUTED, Module, Walk
from taskfleet.code_versions.pieces import ANNOTATIONS, Piece
from taskfleet.code_versions.source_files import SourceFile, parse, top_level_lambdas
from taskfleet.code_versions.syntax import digest_of
from taskfleet.errors import FunctionError

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial, type)


class LiveCode:
    """Adds functions, and the values that they hold, to a walk."""

    def __init__(self, walk: Walk) -> None:
        """Add to ``walk``."""
        self._walk = walk
        self._seen: set[int] = set()

    def add(self, function: Any) -> str:
        """Add a function, class or callable object, and return its name."""
        while isinstance(function, functools.partial | types.MethodType):
            if isinstance(function, types.MethodType):
                function = function.__func__
                continue
            name = _name(function.func)
            for key, value in [*enumerate(function.args), *function.keywords.items()]:
                self._add_value(f"{name}({key})", value, self._place(function.func))
            function = function.func
        wrapped = getattr(function, "__wrapped__", None)
        if callable(wrapped):  # a decorated function: the wrapper counts as well
            name = self.add(wrapped)
            if isinstance(function, types.FunctionType) and not _is_ours(function):
                self._add_function(function)
            return name
        if isinstance(function, types.FunctionType):
            return self._add_function(function)
        if isinstance(function, type):
            return self._add_class(function)
        module = self._module(getattr(type(function), "__module__", None))
        if module is not None or type(function).__module__ == "__main__":
            name = self._add_class(type(function))
            self._note(name, "the attributes of an object that is called", ("", 0))
            return name
        return self._add_outside(function)

    def _add_outside(self, function: Any) -> str:
        name = _name(function)
        self._walk.parts[name] = f"= {name}"
        return name

    def _add_function(self, function: types.FunctionType) -> str:
        code = function.__code__
        if id(code) in self._seen:
            return _name(function)
        self._seen.add(id(code))
        path = self._path(function)
        inside = self._walk.modules.within(path)
        if not path.is_file():
            return self._add_without_file(function)
        if inside is None:
            return self._add_outside(function)
        module = self._walk.modules.at(inside)
        name = f"{module.name}.{code.co_qualname}"
        self._add_closure(name, function)
        assert module.file is not None
        top = code.co_qualname.partition(".")[0]
        if top in module.file:
            self._walk.reach(module, (top,), code.co_firstlineno)
        elif lambdas := list(top_level_lambdas(module.file, code.co_firstlineno)):
            self._walk.reach_piece(module, top, module.file.piece_of(list(lambdas)))
        elif top == "<lambda>":
            self._add_bytecode(name, function)
        else:
            raise FunctionError(
                f"{path} has no function {top!r}; was the file changed since it was imported? Start Python again."
            )
        return name

    def _add_class(self, function: type) -> str:
        module = self._module(function.__module__)
        top = function.__qualname__.partition(".")[0]
        if module is not None and module.file is not None and top in module.file:
            self._walk.reach(module, (top,), 1)
            return f"{module.name}.{function.__qualname__}"
        if function.__module__ != "__main__" or id(function) in self._seen:
            return self._add_outside(function)
        self._seen.add(id(function))
        for one in [value for value in vars(function).values() if isinstance(value, types.FunctionType)]:
            if one.__qualname__.startswith(function.__qualname__):
                return self._add_without_file(one).rpartition(".")[0]
        self._note(_name(function), "a class without source", ("", 0))
        return self._add_outside(function)

    def _add_closure(self, name: str, function: types.FunctionType) -> None:
        """Add the values of the variables that a nested function has from the function around it."""
        for key, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if key != "__class__":
                self._add_value(f"{name}.{key}", value, self._place(function))

    def _add_without_file(self, function: types.FunctionType) -> str:
        code = function.__code__
        name, top = _name(function), code.co_qualname.partition(".")[0]
        self._add_closure(name, function)
        lines = linecache.getlines(code.co_filename, function.__globals__)
        try:
            file = parse("".join(lines).encode(), Path(code.co_filename))
        except FunctionError:  # for example with commands of IPython
            file = parse(b"", Path(code.co_filename))
        if top in file:
            piece = file.piece(top)
        elif lambdas := list(top_level_lambdas(file, code.co_firstlineno)):
            piece = file.piece_of(list(lambdas))
        else:
            self._add_bytecode(name, function)
            return name
        self._add_live_piece(f"{function.__module__}.{top}", piece, file, function.__globals__)
        return name

    def _add_live_piece(self, name: str, piece: Piece, file: SourceFile, names: dict[str, Any]) -> None:
        """Add code whose names are looked up in the namespace of this process, as a notebook has no module with statements."""
        project = self._walk.modules.project
        module = Module("__main__", project, project, file)
        counted = [
            one for one in piece.decorators if one[0] != ANNOTATIONS and not (one[0] and _is_ours(names.get(one[0][0])))
        ]
        if counted:
            counted += [one for one in piece.decorators if one[0] == ANNOTATIONS]
        self._walk.sources[name] = piece.source
        self._walk.parts[name] = digest_of(*piece.notations, *(text for _, text, _ in counted), *piece.methods.values())
        for one in [*piece.reads, *(read for _, _, reads in counted for read in reads)]:
            if one.target is not None:
                self._walk.reach_target(module, one.target, one.chain[1:], one.line)
            elif one.chain[0] in names:
                self._add_named(one.chain, names, (str(file.path), one.line))
            elif one.chain[0] in COMPUTED:
                self._walk.note(module, one.line, COMPUTED[one.chain[0]])

    def _add_named(self, chain: tuple[str, ...], names: dict[str, Any], place: tuple[str, int]) -> None:
        value = names[chain[0]]
        if not isinstance(value, types.ModuleType):
            self._add_value(f"__main__.{chain[0]}", value, place)
            return
        module = self._module(value.__name__)
        if module is not None:
            self._walk.reach_attribute(module, chain[1:], place[1])
            return
        self._walk.parts[f"__main__.{chain[0]}"] = f"= {value.__name__}"
        outside = ".".join((value.__name__, *chain[1:]))
        if outside in COMPUTED:
            self._note("", COMPUTED[outside], place)

    def _add_bytecode(self, name: str, function: types.FunctionType) -> None:
        place = self._place(function)
        self._walk.parts[name] = digest_of(*_bytecode(function.__code__))
        self._note(name, "no source; its bytecode counts, which differs between versions of Python", place)
        for one in function.__code__.co_names:
            if one in function.__globals__:
                self._add_named((one,), function.__globals__, place)

    def _add_value(self, name: str, value: Any, place: tuple[str, int]) -> None:
        text = _constant(value)
        if text is not None:
            self._walk.parts[name] = digest_of(text)
        elif isinstance(value, types.ModuleType):
            module = self._module(value.__name__)
            if module is not None:
                self._walk.reach_attribute(module, (), 1)
        elif isinstance(value, _FUNCTIONS) or callable(getattr(value, "__wrapped__", None)):
            self.add(value)
        elif id(value) not in self._seen:
            self._seen.add(id(value))
            self._note(name, f"an object of type {type(value).__name__}", place)

    def _module(self, name: str | None) -> Module | None:
        """Return an imported module if it is a file of the project."""
        path = getattr(sys.modules.get(name or ""), "__file__", None)
        inside = self._walk.modules.within(Path(path)) if path and path.endswith(".py") else None
        return self._walk.modules.at(inside) if inside is not None else None

    def _path(self, function: types.FunctionType) -> Path:
        path = Path(inspect.getsourcefile(function) or function.__code__.co_filename)
        imported = getattr(sys.modules.get(function.__module__), "__file__", None)
        if not path.is_absolute() and imported is not None and Path(imported).name == path.name:
            return Path(imported)  # a script that was started with a relative path, and has left its folder
        return path

    def _place(self, function: Callable[..., Any]) -> tuple[str, int]:
        code = getattr(function, "__code__", None)
        return (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)

    def _note(self, name: str, what: str, place: tuple[str, int]) -> None:
        inside = self._walk.modules.within(Path(place[0])) if place[0] else None
        file = inside.relative_to(self._walk.modules.project).as_posix() if inside is not None else Path(place[0]).name
        where = f"{file}:{place[1]}: " if place[0] else ""
        self._walk.not_followed[f"{where}{name}{': ' if name else ''}{what}"] = None


def _name(function: Any) -> str:
    module = _module_name(function) or "builtins"
    code = getattr(function, "__code__", None)
    name = getattr(code, "co_qualname", None) or getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}.{name}"


def _is_ours(value: Any) -> bool:
    names = (_module_name(value), getattr(value, "__name__", None), type(value).__module__)
    return any(isinstance(one, str) and one.partition(".")[0] == "taskfleet" for one in names)


def _module_name(function: Any) -> str | None:
    """Return the module that defines a function; ``__module__`` is another one after ``functools.wraps``."""
    if isinstance(function, types.FunctionType):
        return function.__globals__.get("__name__")
    return getattr(function, "__module__", None)


def _constant(value: Any) -> str | None:
    """Return a constant, or containers of constants, as text; None for anything else."""
    if value is None or value is Ellipsis or type(value) in (bool, int, float, complex, bytes):
        return f"{type(value).__name__} {value!r}"
    if type(value) is str:
        return ascii(value)
    if type(value) in (tuple, list, set, frozenset, dict):
        items = value.items() if isinstance(value, dict) else value
        texts = [_constant(one) for one in items]
        found = [one for one in texts if one is not None]
        if len(found) < len(texts):
            return None
        if isinstance(value, set | frozenset):
            found.sort()
        return f"{type(value).__name__}({', '.join(found)})"
    return None


def _bytecode(code: types.CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr(code.co_names)
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from _bytecode(one)
        else:
            yield f"{type(one).__name__} {sorted(one, key=repr) if isinstance(one, frozenset) else one!r}"
