"""Which names a statement of a module changes without assigning them: ``TABLE["x"] = 1``, ``TABLE.append(1)``, ``shuffle(TABLE)``."""

import ast
from collections.abc import Callable

from taskfleet.code_versions.syntax import chain_of, shallow_nodes

#: Methods of Python's containers that change them, wherever they stand in a statement.
_CHANGING_METHODS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem", "popleft"}
    | {"remove", "reverse", "setdefault", "sort", "update"}
)
_HARMLESS_FUNCTIONS = frozenset({"print", "len", "repr", "str", "isinstance"})


def changed_names(statement: ast.stmt, may_change: Callable[[str, bool], bool]) -> set[str]:
    """Return the names that a statement changes, or may change.

    Args:
        statement: A statement of a module.
        may_change: Returns whether a method or a function can change a name's value; its second argument is whether the method is one that
            changes containers.
    """
    found: set[str] = set()
    for node in shallow_nodes(statement):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            found.add(_root(node))
        elif isinstance(node, ast.Delete):
            found.update(one.id for one in node.targets if isinstance(one, ast.Name))
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING_METHODS
        ):
            root = _root(node.func)
            if may_change(root, True):
                found.add(root)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            candidates = {_root(call.func)} if isinstance(call.func, ast.Attribute) else set()
            if chain_of(call.func) not in {(one,) for one in _HARMLESS_FUNCTIONS}:
                candidates.update(
                    one.id
                    for one in [*call.args, *(keyword.value for keyword in call.keywords)]
                    if isinstance(one, ast.Name)
                )
            found.update(one for one in candidates if may_change(one, False))
    found.discard("")
    return found


def is_immutable(value: ast.expr) -> bool:
    """Return whether an expression is a constant that nothing can change."""
    if isinstance(value, ast.UnaryOp):
        value = value.operand
    return isinstance(value, ast.Constant) or (
        isinstance(value, ast.Tuple) and all(is_immutable(one) for one in value.elts)
    )


def _root(node: ast.expr) -> str:
    """Return the name that ``a.b[0].c()`` starts with; an empty text if it is not a name."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
