"""The normalised syntax of code, which every Python from 3.11 on writes alike, and its digest.

What does not change the behaviour is left out: comments, formatting and line numbers (which the syntax tree does not have), docstrings
and other constants that are statements, ``pass``, and annotations. Annotations count where libraries read them: in the body of a class
(dataclasses, pydantic), and in the parameters of a function with a decorator that may read them (``singledispatch``, pydantic).

The notation is our own, not that of ``ast.dump``, whose text differs between versions of Python. Empty fields are left out (``ast.dump``
does so from 3.13 on; new versions add fields, as ``type_params`` in 3.12 and ``default_value`` in 3.13), constants that follow each other
in an f-string are merged (3.12 adds empty ones), and texts are written in ASCII (``repr`` depends on the version of Unicode).
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator

_LEFT_OUT = frozenset({"ctx", "type_comment", "kind", "simple", "type_ignores"})

#: Decorators that do not read annotations.
PLAIN_DECORATORS = frozenset(
    {
        "property",
        "setter",
        "getter",
        "deleter",
        "staticmethod",
        "classmethod",
        "cached_property",
        "cache",
        "lru_cache",
        "wraps",
    }
    | {"abstractmethod", "contextmanager", "override", "final", "overload"}
)

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NOT_ENTERED = frozenset({*FUNCTIONS, ast.ClassDef, ast.Lambda, ast.Constant, ast.Name})


def digest_of(*texts: str) -> str:
    """Return the digest of some texts, in this order."""
    found = hashlib.blake2b(digest_size=16)
    for text in texts:
        found.update(f"{len(text)}:{text}".encode())
    return found.hexdigest()


def normalise(tree: ast.AST) -> None:
    """Remove from a tree, in place, what does not change the behaviour."""
    waiting = [tree]
    in_class: set[int] = set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ClassDef):
            in_class.add(id(node))
        if isinstance(node, FUNCTIONS) and all(is_plain(one) for one in node.decorator_list):
            take_annotations(node)
        elif isinstance(node, ast.Lambda | ast.Constant | ast.Name):
            if isinstance(node, ast.Lambda):
                waiting.append(node.body)
                waiting.append(node.args)
            continue
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, ast.AST):
                waiting.append(value)
            elif isinstance(value, list):
                if field in ("body", "orelse", "finalbody"):
                    value = _without_idle(value, is_class=id(node) in in_class)
                    setattr(node, field, value)
                    if id(node) in in_class:
                        in_class.update(id(one) for one in value if isinstance(one, ast.If | ast.Try | ast.With))
                waiting.extend(one for one in value if isinstance(one, ast.AST))


def take_annotations(function: FunctionNode) -> list[ast.AST]:
    """Remove the annotations and type parameters of a function, and return them."""
    taken: list[ast.AST] = []
    for one in _parameters(function.args):
        if one.annotation is not None:
            taken.append(ast.keyword(arg=one.arg, value=one.annotation))
            one.annotation = None
    if function.returns is not None:
        taken.append(function.returns)
        function.returns = None
    taken += getattr(function, "type_params", [])
    if hasattr(function, "type_params"):
        function.type_params = []
    return taken


def notation(tree: ast.AST) -> str:
    """Return the notation of a normalised tree; two trees have the same only if they are the same code."""
    written: list[str] = []
    waiting: list[ast.AST | str | None] = [tree]
    while waiting:
        node = waiting.pop()
        if node is None:
            written.append("None")
        elif isinstance(node, str):
            written.append(node)
        elif isinstance(node, ast.Constant):
            written.append(_constant(node.value))
        elif isinstance(node, ast.Name):
            written.append(f"Name({node.id})")
        else:
            if isinstance(node, ast.JoinedStr):
                values = list(_merged(node.values))
                if len(values) < 2 and all(isinstance(one, ast.Constant) for one in values):
                    waiting.append(values[0] if values else ast.Constant(""))
                    continue
                node = ast.JoinedStr(values=values)
            written.append(f"{type(node).__name__}(")
            waiting.append(")")
            for field in reversed(node._fields):
                value = getattr(node, field, None)
                if value is None or value == [] or field in _LEFT_OUT:
                    continue
                if isinstance(value, ast.AST):
                    waiting.append(value)
                elif isinstance(value, list):
                    waiting.append("]")
                    for one in reversed(value):
                        waiting.append(f"{one}," if isinstance(one, str) else one)
                    waiting.append("[")
                else:
                    waiting.append(str(value))
                waiting.append(f" {field}=")
    return "".join(written)


def chain_of(node: ast.AST | None) -> tuple[str, ...]:
    """Return the names of ``a.b.c``; none if it starts with something other than a name."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def decorator_chain(decorator: ast.expr) -> tuple[str, ...]:
    """Return the names of the decorator ``@a.b``, ``@a.b(…)`` or ``@a(…).b``."""
    names = []
    while isinstance(decorator, ast.Attribute | ast.Call):
        if isinstance(decorator, ast.Attribute):
            names.append(decorator.attr)
        decorator = decorator.value if isinstance(decorator, ast.Attribute) else decorator.func
    return (decorator.id, *reversed(names)) if isinstance(decorator, ast.Name) else ()


def shallow_nodes(statement: ast.AST) -> Iterator[ast.AST]:
    """Generate the nodes of a statement that run where it stands; not those in functions, classes and lambdas that it defines."""
    waiting = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        if type(node) not in _NOT_ENTERED:
            waiting.extend(child_nodes(node))


def child_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Generate the nodes below a node, without those that only say how a name is used."""
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, list):
            for one in value:
                if isinstance(one, ast.AST):
                    yield one
        elif isinstance(value, ast.AST) and field != "ctx":
            yield value


def is_plain(decorator: ast.expr) -> bool:
    """Return whether a decorator does not read annotations, as far as its name says."""
    chain = decorator_chain(decorator)
    return bool(chain) and chain[-1] in PLAIN_DECORATORS


def _parameters(arguments: ast.arguments) -> Iterable[ast.arg]:
    yield from arguments.posonlyargs
    yield from arguments.args
    yield from arguments.kwonlyargs
    if arguments.vararg is not None:
        yield arguments.vararg
    if arguments.kwarg is not None:
        yield arguments.kwarg


def _without_idle(body: list[ast.stmt], *, is_class: bool) -> list[ast.stmt]:
    """Return a body without statements that do nothing, and without annotations of variables that are not fields of a class."""
    kept: list[ast.stmt] = []
    for one in body:
        if isinstance(one, ast.Pass) or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)):
            continue
        if isinstance(one, ast.AnnAssign) and not is_class:
            kept.append(without_annotation(one))
        else:
            kept.append(one)
    return kept


def without_annotation(statement: ast.AnnAssign) -> ast.stmt:
    """Return ``x: T = value`` as ``x = value``, and ``x: T``, which only declares ``x``, without the type."""
    if statement.value is None:
        changed: ast.stmt = ast.AnnAssign(target=statement.target, annotation=ast.Constant(None), value=None, simple=1)
    else:
        changed = ast.Assign(targets=[statement.target], value=statement.value)
    return ast.copy_location(changed, statement)


def _merged(values: list[ast.expr]) -> Iterator[ast.expr]:
    """Generate the parts of an f-string, with constants that follow each other merged, and empty ones left out."""
    text = ""
    for one in values:
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            text += one.value
            continue
        if text:
            yield ast.Constant(text)
            text = ""
        yield one
    if text:
        yield ast.Constant(text)


def _constant(value: object) -> str:
    """Return a constant in a notation that does not depend on Python's version, as ``repr`` does for characters new in Unicode."""
    if isinstance(value, str):
        return ascii(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:#x}"
    if isinstance(value, complex):
        return f"{value.imag!r}j"
    return repr(value)
