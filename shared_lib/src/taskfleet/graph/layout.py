"""Places the functions of a graph in layers: each below those whose results it takes, with few crossings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: Sweeps over the layers that reorder them.
SWEEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layers of a graph. An item is the number of a node, or a negative number where a long edge passes through a layer."""

    layers: list[list[int]]
    """The items of each layer, from left to right."""
    paths: dict[tuple[int, int], list[int]]
    """By edge, the items that it passes, from its beginning to its end."""


def layers_of(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return the layer of each node; edges that close a circle do not count.

    Args:
        n: The number of nodes.
        edges: Pairs of nodes, from and to.
    """
    before: dict[int, list[int]] = {node: [] for node in range(n)}
    for source, target in edges:
        if source != target:
            before[target].append(source)
    layer: dict[int, int] = {}
    for start in range(n):
        path, left = [start], [iter(before[start])] if start not in layer else []
        while left:
            parent = next((one for one in left[-1] if one not in layer and one not in path), None)
            if parent is not None:
                path.append(parent)
                left.append(iter(before[parent]))
                continue
            node = path.pop()
            left.pop()
            layer[node] = 1 + max((layer[one] for one in before[node] if one in layer), default=-1)
    return [layer[node] for node in range(n)]


def arrange(n: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Return the layout of a graph with ``n`` nodes."""
    layer = layers_of(n, edges)
    layers: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for node in range(n):
        layers[layer[node]].append(node)
    paths: dict[tuple[int, int], list[int]] = {}
    passing = -1
    for source, target in edges:
        path = [source]
        for between in range(layer[source] + 1, layer[target]):
            layers[between].append(passing)
            path.append(passing)
            passing -= 1
        paths[source, target] = [*path, target]
    _uncross(layers, paths)
    return Layout(layers=layers, paths=paths)


def _uncross(layers: list[list[int]], paths: Mapping[tuple[int, int], Sequence[int]]) -> None:
    """Order each layer by the mean places of the neighbours in the one before, downwards and upwards in turn."""
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for path in paths.values():
        for source, target in pairwise(path):
            above.setdefault(target, []).append(source)
            below.setdefault(source, []).append(target)
    for sweep in range(SWEEPS):
        order, neighbours = (layers, above) if sweep % 2 == 0 else (layers[::-1], below)
        for fixed, moved in pairwise(order):
            place = {item: index for index, item in enumerate(fixed)}
            own = {item: index for index, item in enumerate(moved)}

            def mean(item: int, place: dict[int, int] = place, own: dict[int, int] = own) -> float:
                found = [place[one] for one in neighbours.get(item, ()) if one in place]  # noqa: B023
                return sum(found) / len(found) if found else own[item]

            moved.sort(key=mean)
