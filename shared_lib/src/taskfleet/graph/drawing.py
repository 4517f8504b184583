"""Draws the graph of a job's functions: as text, for Mermaid, as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from taskfleet.graph.layout import arrange, layers_of
from taskfleet.ledger.edges import Needs
from taskfleet.ledger.function_graph import FunctionCounts, FunctionEdge
from taskfleet.tasks import State
from taskfleet.text import columns, counted

#: The colour of each state.
COLOURS = {
    State.SUCCEEDED: "#4c9f70",
    State.RUNNING: "#3d7ea6",
    State.PENDING: "#9fc5dd",
    State.WAITING: "#d0d0d0",
    State.FAILED: "#c8553d",
    State.KILLED: "#8a8a8a",
}
_CHARACTER, _LINE, _PADDING, _GAP, _BAR = 7.3, 18, 12, 36, 6
_LAYER_GAP = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is drawn."""

    job_id: str
    functions: Sequence[FunctionCounts]
    edges: Sequence[FunctionEdge]

    @property
    def pairs(self) -> dict[tuple[int, int], bool]:
        """By the numbers of two functions, whether the second needs only the ends of the first one's tasks."""
        number = {one.name: index for index, one in enumerate(self.functions)}
        found: dict[tuple[int, int], bool] = {}
        for edge in self.edges:
            if edge.parent in number and edge.child in number:
                key = (number[edge.parent], number[edge.child])
                found[key] = found.get(key, True) and edge.needs == Needs.END
        return dict(sorted(found.items()))


def states_text(function: FunctionCounts) -> str:
    """Return the number of a function's tasks in each state that any has."""
    return ", ".join(f"{n:,} {state.word}" for state, n in function.counts.items() if n)


def as_text(drawing: Drawing) -> str:
    """Return the graph as a table: a line for each function, below those whose results it takes."""
    if not drawing.functions:
        return f"Job {drawing.job_id} has no graph."
    functions, pairs = drawing.functions, drawing.pairs
    layer = layers_of(len(functions), list(pairs))
    rows = []
    for node in sorted(range(len(functions)), key=lambda one: (layer[one], one)):
        parents = [
            functions[source].name + (" (ends)" if ends else "") for (source, to), ends in pairs.items() if to == node
        ]
        one = functions[node]
        rows.append((one.name, f"{one.total:,}", states_text(one), ", ".join(parents)))
    total = sum(one.total for one in functions)
    title = f"Job {drawing.job_id}: {counted(total, 'task')} of {counted(len(functions), 'function')}"
    return f"{title}\n\n{columns(rows, ('function', 'tasks', 'states', 'takes results of'))}"


def as_mermaid(drawing: Drawing) -> str:
    """Return the graph as a flowchart for Mermaid."""
    lines = ["flowchart TD"]
    for node, one in enumerate(drawing.functions):
        parts = [one.name, counted(one.total, "task"), states_text(one)]
        label = "<br>".join(part.replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;") for part in parts)
        lines.append(f'    f{node}["{label}"]')
    for (source, target), ends in drawing.pairs.items():
        lines.append(f"    f{source} {'-.->' if ends else '-->'} f{target}")
    for node, one in enumerate(drawing.functions):
        lines.append(f"    style f{node} stroke:{_colour(one)},stroke-width:2px")
    return "\n".join([*lines, ""])


def as_svg(drawing: Drawing) -> str:
    """Return the graph as a picture, which needs nothing else to be shown."""
    boxes = [_Box(one) for one in drawing.functions]
    layout = arrange(len(boxes), list(drawing.pairs))
    height = max((box.height for box in boxes), default=0)
    rows = [[(item, boxes[item].width if item >= 0 else _GAP) for item in layer] for layer in layout.layers]
    widths = [sum(width for _, width in row) + _GAP * (len(row) - 1) for row in rows]
    full = max([*widths, 200.0]) + 2 * _GAP
    centre: dict[int, tuple[float, float]] = {}
    for index, row in enumerate(rows):
        x = (full - widths[index]) / 2
        for item, width in row:
            centre[item] = (x + width / 2, _GAP + height / 2 + index * (height + _LAYER_GAP))
            x += width + _GAP
    parts = []
    for edge, ends in drawing.pairs.items():
        points = [centre[item] for item in layout.paths[edge]]
        parts.append(_arrow(points, height, is_dashed=ends, is_loop=edge[0] == edge[1], width=boxes[edge[0]].width))
    parts += [box.svg(*centre[node], height) for node, box in enumerate(boxes)]
    full_height = 2 * _GAP + len(rows) * height + max(len(rows) - 1, 0) * _LAYER_GAP
    return _PAGE.format(
        width=round(full), height=round(full_height), title=escape(f"Job {drawing.job_id}"), body="\n".join(parts)
    )


_PAGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"
    font-family="sans-serif" font-size="12">
<title>{title}</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>
<rect width="100%" height="100%" fill="white"/>
{body}
</svg>
"""


class _Box:
    """The box of a function."""

    def __init__(self, function: FunctionCounts) -> None:
        self._function = function
        self.lines = [function.name, counted(function.total, "task"), *states_text(function).split(", ")]
        self.width = max(len(line) for line in self.lines) * _CHARACTER + 2 * _PADDING
        self.height = len(self.lines) * _LINE + 2 * _PADDING + _BAR

    def svg(self, x: float, y: float, height: float) -> str:
        """Return the box around a point, at the top of a space of a height."""
        left, top = x - self.width / 2, y - height / 2
        parts = [
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{self.width:.1f}" height="{height:.1f}" rx="6" fill="#fafafa" '
            f'stroke="{_colour(self._function)}" stroke-width="2"/>'
        ]
        for index, line in enumerate(self.lines):
            weight = ' font-weight="bold"' if index == 0 else ""
            at = top + _PADDING + (index + 0.75) * _LINE
            parts.append(f'<text x="{x:.1f}" y="{at:.1f}" text-anchor="middle"{weight}>{escape(line)}</text>')
        start, inner = left + _PADDING, self.width - 2 * _PADDING
        for state, colour in COLOURS.items():
            share = inner * self._function.counts[state] / max(self._function.total, 1)
            if share:
                parts.append(
                    f'<rect x="{start:.1f}" y="{top + height - _PADDING / 2 - _BAR:.1f}" width="{share:.1f}" height="{_BAR}" '
                    f'fill="{colour}"><title>{state.word}</title></rect>'
                )
            start += share
        return "\n".join(parts)


def _arrow(
    points: Sequence[tuple[float, float]], height: float, *, is_dashed: bool, is_loop: bool, width: float
) -> str:
    """Return an arrow through points, from the lower edge of the first box to the upper edge of the last."""
    dashes = ' stroke-dasharray="5 4"' if is_dashed else ""
    if is_loop:
        (x, y) = points[0]
        side = x + width / 2
        path = f"M{side:.1f} {y - 10:.1f}C{side + 28:.1f} {y - 24:.1f} {side + 28:.1f} {y + 24:.1f} {side:.1f} {y + 10:.1f}"
    else:
        (x, y) = points[0]
        path = f"M{x:.1f} {y + height / 2:.1f}"
        for index, (to_x, to_y) in enumerate(points[1:], start=1):
            begin = y + height / 2
            end = to_y - height / 2
            middle = (begin + end) / 2
            path += f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {end:.1f}"
            if index < len(points) - 1:
                path += f"V{to_y + height / 2:.1f}"
            x, y = to_x, to_y
    return f'<path d="{path}" fill="none" stroke="#555" stroke-width="1.3" marker-end="url(#tip)"{dashes}/>'


def _colour(function: FunctionCounts) -> str:
    """Return the colour of the state that matters most."""
    order = (State.FAILED, State.KILLED, State.RUNNING, State.PENDING, State.WAITING, State.SUCCEEDED)
    return next((COLOURS[state] for state in order if function.counts[state]), COLOURS[State.WAITING])
