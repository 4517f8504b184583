"""Which global names code reads: its local variables, parameters and comprehensions are told apart from the names of the module."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from taskfleet.code_versions.syntax import FUNCTIONS, chain_of, child_nodes, shallow_nodes

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Target:
    """What an import statement binds a name to."""

    level: int
    """The number of dots of a relative import."""
    module: str
    name: str | None = None
    """The name that is imported from the module; None if it is the module itself."""


@dataclass(frozen=True, slots=True)
class Read:
    """A global name that is read, with the attributes that are read from it: ``("helper", "sub", "scale")``."""

    chain: tuple[str, ...]
    line: int
    target: Target | None = None
    """What a function has imported by this name; None for a name of the module."""


@dataclass(slots=True)
class _Scope:
    parent: "_Scope | None"
    bound: set[str] = field(default_factory=set)
    declared_global: set[str] = field(default_factory=set)
    imports: dict[str, list[Target]] = field(default_factory=dict)
    is_class: bool = False

    def binding(self, name: str) -> "_Scope | None":
        """Return the scope that binds a name; None for a global name."""
        scope: _Scope | None = self
        while scope is not None:
            if name in scope.declared_global:
                return None
            if name in scope.bound and (scope is self or not scope.is_class):
                return scope
            scope = scope.parent
        return None


def targets_of(statement: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Target]]:
    """Generate the names that an import statement binds, each with what it is bound to; the name is ``*`` for ``import *``."""
    for one in statement.names:
        if isinstance(statement, ast.ImportFrom):
            yield one.asname or one.name, Target(statement.level, statement.module or "", one.name)
        elif one.asname:
            yield one.asname, Target(0, one.name)
        else:
            top = one.name.partition(".")[0]
            yield top, Target(0, top)


def bound_names(node: ast.AST) -> Iterator[str]:
    """Generate the names that a node itself binds (not its children)."""
    if isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Load):
            yield node.id
    elif isinstance(node, ast.expr):
        return
    elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for name, _ in targets_of(node):
            yield name
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def names_bound_by(statement: ast.AST) -> set[str]:
    """Return the names that a statement binds where it stands; the variables of comprehensions are not among them."""
    return _names_bound_by(shallow_nodes(statement))


def _names_bound_by(nodes: Iterable[ast.AST]) -> set[str]:
    found: set[str] = set()
    own: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.comprehension):
            own.update(id(one) for one in ast.walk(node.target))
        elif id(node) not in own:
            found.update(bound_names(node))
    return found


def global_reads(nodes: Iterable[ast.AST]) -> list[Read]:
    """Return the global names that statements or expressions of a module read, in any order."""
    return _Reader().read(nodes)


class _Reader:
    def __init__(self) -> None:
        self._reads: dict[Read, None] = {}
        self._waiting: list[tuple[ast.AST, _Scope]] = []

    def read(self, nodes: Iterable[ast.AST]) -> list[Read]:
        module = _Scope(None)
        self._push(nodes, module)
        while self._waiting:
            node, scope = self._waiting.pop()
            if isinstance(node, ast.Name):
                if isinstance(node.ctx, ast.Load) or node.id in scope.declared_global:
                    self._add((node.id,), node, scope)
            elif isinstance(node, ast.Attribute):
                chain = chain_of(node)
                if chain:
                    self._add(chain, node, scope)
                else:
                    self._waiting.append((node.value, scope))
            elif isinstance(node, ast.Constant):
                continue
            elif isinstance(node, (*FUNCTIONS, ast.Lambda)):
                self._function(node, scope)
            elif isinstance(node, ast.ClassDef):
                self._class(node, scope)
            elif isinstance(node, COMPREHENSIONS):
                self._comprehension(node, scope)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for name, target in targets_of(node):
                    if name in scope.declared_global:
                        self._reads[Read((name,), node.lineno, target)] = None
            elif isinstance(node, ast.Call) and (chain := _constant_getattr(node)):
                self._add(chain, node, scope)
                self._push(node.args[2:], scope)
            else:
                self._push(child_nodes(node), scope)
        return list(self._reads)

    def _push(self, nodes: Iterable[ast.AST], scope: _Scope) -> None:
        self._waiting.extend((one, scope) for one in nodes)

    def _add(self, chain: tuple[str, ...], node: ast.expr, scope: _Scope) -> None:
        binding = scope.binding(chain[0])
        if binding is None:
            self._reads[Read(chain, node.lineno)] = None
        else:
            for target in binding.imports.get(chain[0], ()):
                self._reads[Read(chain, node.lineno, target)] = None

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: _Scope) -> None:
        arguments = node.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        parameters += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
        self._push(arguments.defaults, scope)
        self._push((one for one in arguments.kw_defaults if one is not None), scope)
        own = _Scope(scope, {one.arg for one in parameters})
        type_params = list(getattr(node, "type_params", ()))
        own.bound.update(one.name for one in type_params)
        self._push(type_params, own)
        self._push((one.annotation for one in parameters if one.annotation is not None), own if type_params else scope)
        if isinstance(node, ast.Lambda):
            _collect([node.body], own)
            self._waiting.append((node.body, own))
            return
        self._push(node.decorator_list, scope)
        if node.returns is not None:
            self._waiting.append((node.returns, own if type_params else scope))
        _collect(node.body, own)
        self._push(node.body, own)

    def _class(self, node: ast.ClassDef, scope: _Scope) -> None:
        self._push(node.decorator_list, scope)
        type_params = list(getattr(node, "type_params", ()))
        if type_params:
            scope = _Scope(scope, {one.name for one in type_params})
            self._push(type_params, scope)
        self._push(node.bases, scope)
        self._push(node.keywords, scope)
        before: set[str] = set()
        imports: dict[str, list[Target]] = {}
        for statement in node.body:  # a name is read from the module until the class has bound it
            own = _Scope(scope, set(before), imports=imports, is_class=True)
            _collect([statement], own, binds=False)
            self._waiting.append((statement, own))
            before |= names_bound_by(statement)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp, scope: _Scope) -> None:
        own = _Scope(scope)
        for index, one in enumerate(node.generators):
            for part in ast.walk(one.target):
                own.bound.update(bound_names(part))
            self._waiting.append((one.iter, own if index else scope))
            self._waiting.append((one.target, own))
            self._push(one.ifs, own)
        self._push([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt], own)


def _collect(body: Iterable[ast.AST], scope: _Scope, *, binds: bool = True) -> None:
    """Add what statements bind to the scope of the function they are the body of."""
    free: set[str] = set()
    for statement in body:
        nodes = list(shallow_nodes(statement))
        if binds:
            scope.bound |= _names_bound_by(nodes)
        for node in nodes:
            if isinstance(node, ast.Global):
                scope.declared_global.update(node.names)
            elif isinstance(node, ast.Nonlocal):
                free.update(node.names)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                for name, target in targets_of(node):
                    scope.imports.setdefault(name, []).append(target)
    scope.bound -= scope.declared_global | free


def _constant_getattr(node: ast.Call) -> tuple[str, ...]:
    """Return the names of ``getattr(a.b, "c")``; none for any other call."""
    if not (isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1):
        return ()
    chain, name = chain_of(node.args[0]), node.args[1]
    return (*chain, name.value) if chain and isinstance(name, ast.Constant) and isinstance(name.value, str) else ()
