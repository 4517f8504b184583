"""Source files as the statements that define each name of the module; each file is parsed once, until it changes."""

import ast
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from taskfleet.code_versions.changing import changed_names, is_immutable
from taskfleet.code_versions.names import Read, Target, global_reads, names_bound_by, targets_of
from taskfleet.code_versions.pieces import Piece, Statement, class_notation, take_decorators
from taskfleet.code_versions.syntax import (
    FUNCTIONS,
    chain_of,
    decorator_chain,
    normalise,
    notation,
    shallow_nodes,
    without_annotation,
)
from taskfleet.errors import FunctionError

_files: dict[Path, tuple[int, int, "SourceFile"]] = {}


@dataclass(slots=True)
class SourceFile:
    """The statements of a file, by the name that each defines or changes."""

    path: Path
    lines: list[bytes]
    tree: ast.Module
    stars: list[Target] = field(default_factory=list)
    """The modules of ``from … import *``."""
    _names: dict[str, list[Statement]] = field(default_factory=dict)
    _pieces: dict[str, Piece] = field(default_factory=dict)
    _normalised: set[int] = field(default_factory=set)
    _decorations: dict[int, list[tuple[tuple[str, ...], ast.AST]]] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names(self) -> list[str]:
        """Return all names that the statements of the module define."""
        return list(self._names)

    def exported(self) -> list[str]:
        """Return the names that ``import *`` imports."""
        listed: list[str] = []
        for one in self._names.get("__all__", ()):
            if not isinstance(one.node, ast.Assign | ast.AugAssign):
                return self.names()
            try:
                listed += ast.literal_eval(one.node.value)
            except ValueError:
                return self.names()
        return listed or [name for name in self._names if not name.startswith("_")]

    def assigned(self, name: str) -> ast.expr | None:
        """Return the value of a name that one statement assigns; None if it is defined otherwise."""
        statements = self._names.get(name, [])
        node = statements[0].node if len(statements) == 1 else None
        if isinstance(node, ast.Assign) and all(isinstance(one, ast.Name) for one in node.targets):
            return node.value
        return None

    def piece(self, name: str) -> Piece:
        """Return the code of a name of this module."""
        found = self._pieces.get(name)
        if found is None:
            found = self._pieces[name] = self._new_piece(self._names[name])
        return found

    def piece_of(self, nodes: list[ast.expr]) -> Piece:
        """Return the code of some expressions of the module, for example lambdas."""
        for one in nodes:
            normalise(one)
        return Piece(
            notations=tuple(notation(one) for one in nodes),
            methods={},
            decorators=(),
            reads=tuple(global_reads(nodes)),
            targets=(),
            is_import=False,
            source="\n".join(self.source_of(one) for one in nodes),
        )

    def source_of(self, node: ast.stmt | ast.expr) -> str:
        """Return the text of a statement or expression as it stands in the file, with its decorators."""
        decorators = getattr(node, "decorator_list", None) or [node]
        first, last = min(decorators[0].lineno, node.lineno) - 1, node.end_lineno or node.lineno
        lines = self.lines[first:last]
        if isinstance(node, ast.expr) and lines:
            lines[-1] = lines[-1][: node.end_col_offset]
            lines[0] = lines[0][node.col_offset :]
        return b"".join(lines).decode(errors="replace").rstrip("\r\n")

    def index(self) -> None:
        """Find the names of the module."""
        self._index(self.tree.body, ())
        functions = {name for name, found in self._names.items() if isinstance(found[0].node, FUNCTIONS)}
        for one in [one for found in self._names.values() for one in found if isinstance(one.node, FUNCTIONS)]:
            assert isinstance(one.node, FUNCTIONS)
            for chain in map(decorator_chain, one.node.decorator_list):
                if len(chain) > 1 and chain[0] in functions and chain[0] != one.node.name:  # @function.register
                    self._add(chain[0], Statement(one.node, one.conditions, is_change=True))

    def _index(self, statements: Iterable[ast.stmt], conditions: tuple[tuple[ast.expr, bool], ...]) -> None:
        for one in statements:
            if isinstance(one, ast.Import | ast.ImportFrom):
                for name, target in targets_of(one):
                    if name == "*":
                        self.stars.append(target)
                    else:
                        alias = f"{target.level} {target.module} {target.name}"
                        self._add(name, Statement(one, conditions, (target,), alias))
            elif isinstance(one, (*FUNCTIONS, ast.ClassDef)):
                self._add(one.name, Statement(one, conditions))
                self._add_globals(one, conditions)
            elif isinstance(one, ast.If):
                if not _is_main_guard(one.test):
                    self._index(one.body, (*conditions, (one.test, True)))
                self._index(one.orelse, (*conditions, (one.test, False)))
            elif not isinstance(one, ast.AnnAssign):
                self._index_whole(one, conditions)
            elif one.value is not None:
                self._index_whole(without_annotation(one), conditions)

    def _index_whole(self, statement: ast.stmt, conditions: tuple[tuple[ast.expr, bool], ...]) -> None:
        """Add a statement to each name that it binds or changes, whichever part of it does."""
        targets: dict[str, list[Target]] = {}
        if not isinstance(statement, ast.Assign | ast.Expr | ast.AugAssign):
            for node in shallow_nodes(statement):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    for name, target in targets_of(node):
                        targets.setdefault(name, []).append(target)
                elif isinstance(node, FUNCTIONS):
                    self._add_globals(node, conditions)
        self.stars += targets.pop("*", ())
        bound = names_bound_by(statement) - {"*"}
        for name in bound:
            self._add(name, Statement(statement, conditions, tuple(targets.get(name, ()))))
        for name in changed_names(statement, self._may_change) - bound:
            self._add(name, Statement(statement, conditions, is_change=True))

    def _may_change(self, name: str, is_container: bool) -> bool:
        """Return whether a method of a name may change it: it is a class, or is assigned something other than a constant."""
        found = [one for one in self._names.get(name, ()) if not one.is_change]
        if not found or any(isinstance(one.node, (*FUNCTIONS, ast.Import)) for one in found):
            return False
        if any(isinstance(one.node, ast.ImportFrom) for one in found):
            return is_container
        value = self.assigned(name)
        return value is None or not is_immutable(value)

    def _add_globals(self, function: ast.stmt, conditions: tuple[tuple[ast.expr, bool], ...]) -> None:
        """Add a function that assigns a global name to that name."""
        if not any(b"global" in one for one in self.lines[function.lineno - 1 : function.end_lineno]):
            return
        names = {name for node in ast.walk(function) if isinstance(node, ast.Global) for name in node.names}
        for name in sorted(names):
            self._add(name, Statement(function, conditions, is_change=True))

    def _add(self, name: str, statement: Statement) -> None:
        self._names.setdefault(name, []).append(statement)

    def _new_piece(self, statements: list[Statement]) -> Piece:
        notations: list[str] = []
        methods: dict[str, str] = {}
        decorators: list[tuple[tuple[str, ...], str, tuple[Read, ...]]] = []
        reads: dict[Read, None] = {}
        sources: dict[str, None] = {}
        is_import = all(one.alias and not one.conditions for one in statements)
        for one in statements:
            node = one.node
            sources[self.source_of(node)] = None
            taken = self._prepare(node)
            read: list[ast.AST] = [condition for condition, _ in one.conditions]
            text = "".join(f"{fulfilled} if {notation(condition)}: " for condition, fulfilled in one.conditions)
            if one.alias:
                text += one.alias
            elif isinstance(node, ast.ClassDef):
                text += class_notation(node, methods)
                read.append(node)
            else:
                text += notation(node)
                read.append(node)
            notations.append(text)
            decorators += [(chain, notation(part), tuple(global_reads([part]))) for chain, part in taken]
            reads.update(dict.fromkeys(global_reads(read)))
        targets = dict.fromkeys(target for one in statements for target in one.targets)
        return Piece(
            notations=tuple(notations),
            methods=methods,
            decorators=tuple(decorators),
            reads=tuple(reads),
            targets=tuple(targets),
            is_import=is_import,
            source="\n".join(sources),
        )

    def _prepare(self, node: ast.stmt) -> list[tuple[tuple[str, ...], ast.AST]]:
        """Normalise a statement, and return the decorators that were taken from a function, and its annotations (named ANNOTATIONS)."""
        if id(node) not in self._normalised:
            self._normalised.add(id(node))
            taken: list[tuple[tuple[str, ...], ast.AST]] = []
            if isinstance(node, FUNCTIONS):
                taken = take_decorators(node)
            normalise(node)
            self._decorations[id(node)] = taken
        return self._decorations[id(node)]


def read_file(path: Path) -> SourceFile:
    """Return a parsed file.

    Raises:
        FunctionError: It cannot be read, or is not valid for this version of Python.
    """
    try:
        status = path.stat()
        found = _files.get(path)
        if found is None or found[:2] != (status.st_mtime_ns, status.st_size):
            found = (status.st_mtime_ns, status.st_size, parse(path.read_bytes(), path))
            _files[path] = found
    except OSError as error:
        raise FunctionError(f"{path} cannot be read: {error.strerror}.") from None
    return found[2]


def parse(text: bytes, path: Path) -> SourceFile:
    """Return the parsed text of a file; errors as for ``read_file``."""
    import platform

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # of escapes, up to 3.11
            tree = ast.parse(text, str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise FunctionError(
            f"{path}{line}: Python {platform.python_version()} cannot parse this file: {reason}. Correct it, or use a Python that can."
        ) from None
    found = SourceFile(path, text.splitlines(keepends=True), tree)
    found.index()
    return found


def _is_main_guard(test: ast.expr) -> bool:
    """Return whether a condition is ``__name__ == "__main__"``, which is not fulfilled where a worker imports the module."""
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)):
        return False
    sides = (test.left, test.comparators[0])
    return any(chain_of(one) == ("__name__",) for one in sides) and any(
        isinstance(one, ast.Constant) and one.value == "__main__" for one in sides
    )


def top_level_lambdas(file: SourceFile, line: int) -> Iterator[ast.Lambda]:
    """Generate the lambdas that start in a line, outside of functions."""
    for statement in file.tree.body:
        if statement.lineno <= line <= (statement.end_lineno or line):
            for node in shallow_nodes(statement):
                if isinstance(node, ast.Lambda) and node.lineno == line:
                    yield node
