"""The code of one name of a module: the statements that define or change it."""

import ast
from dataclasses import dataclass
from typing import cast

from taskfleet.code_versions.names import Read, Target
from taskfleet.code_versions.syntax import (
    FUNCTIONS,
    FunctionNode,
    decorator_chain,
    is_plain,
    normalise,
    notation,
    take_annotations,
)

#: Stands for the name of a decorator where the annotations of a decorated function are meant.
ANNOTATIONS = (":",)


@dataclass(frozen=True, slots=True)
class Piece:
    """The code of one name of a module."""

    notations: tuple[str, ...]
    """Of each statement that defines or changes it, in their order; without methods and decorators."""
    methods: dict[str, str]
    """The notations of the methods of a class."""
    decorators: tuple[tuple[tuple[str, ...], str, tuple[Read, ...]], ...]
    """Of each decorator: its name, notation, and the names it reads; the last one stands for the annotations."""
    reads: tuple[Read, ...]
    targets: tuple[Target, ...]
    """What import statements bind it to."""
    is_import: bool
    """Whether import statements are all there is."""
    source: str


@dataclass(slots=True)
class Statement:
    """A statement that defines or changes a name of a module."""

    node: ast.stmt
    conditions: tuple[tuple[ast.expr, bool], ...]
    """The conditions at module level under which it runs, and whether each is fulfilled."""
    targets: tuple[Target, ...] = ()
    alias: str = ""
    """The part of an import statement that binds this name."""
    is_change: bool = False


def take_decorators(node: FunctionNode) -> list[tuple[tuple[str, ...], ast.AST]]:
    """Remove the decorators of a function and, if they may read them, its annotations; return them, normalised, with their names."""
    decorators, node.decorator_list = node.decorator_list, []
    for one in decorators:
        normalise(one)
    taken: list[tuple[tuple[str, ...], ast.AST]] = [(decorator_chain(one), one) for one in decorators]
    annotations = take_annotations(node)
    if annotations and not all(map(is_plain, decorators)):
        taken.append((ANNOTATIONS, ast.Tuple(elts=cast(list[ast.expr], annotations))))
    return taken


def class_notation(node: ast.ClassDef, methods: dict[str, str]) -> str:
    """Return the notation of a class without the bodies of its methods, which are added to ``methods``."""
    body: list[ast.stmt] = []
    for one in node.body:
        if isinstance(one, FUNCTIONS):
            methods[one.name] = methods.get(one.name, "") + notation(one)
            body.append(ast.Global(names=[one.name]))  # its place
        else:
            body.append(one)
    fields = {name: getattr(node, name) for name in node._fields if hasattr(node, name)}
    return notation(ast.ClassDef(**{**fields, "body": body}))
