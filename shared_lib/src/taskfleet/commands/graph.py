"""``poe graph``: show which functions take results of which."""

from collections.abc import Callable, Sequence
from pathlib import Path

from taskfleet.api.looking import functions
from taskfleet.errors import UsageError
from taskfleet.graph.drawing import Drawing, as_mermaid, as_svg, as_text
from taskfleet.terminal.arguments import configure, make_parser, users_path
from taskfleet.text import counted

_WRITERS: dict[str, Callable[[Drawing], str]] = {
    ".svg": as_svg,
    ".mmd": as_mermaid,
    ".md": lambda drawing: f"```mermaid\n{as_mermaid(drawing)}```\n",
    ".txt": lambda drawing: f"{as_text(drawing)}\n",
}

EXAMPLES = """\
  poe graph
  poe graph -o graph.svg        a picture
  poe graph -o graph.md         for Mermaid (.mmd: without Markdown around it)"""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("graph", "It is fast for any number of tasks: there is one node per function.", EXAMPLES)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help=f"write a file; its suffix is the format: {' '.join(_WRITERS)}"
    )
    arguments = parser.parse_args(argv)
    configuration = configure(arguments)
    path = None if arguments.output is None else users_path(arguments.output)
    write = as_text if path is None else _writer(path)
    found, edges = functions(configuration)
    drawing = Drawing(job_id=configuration.settings.job_id, functions=found, edges=edges)
    if path is None:
        print(as_text(drawing))
        return 0
    try:
        path.write_text(write(drawing), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    print(f"Wrote the graph of {counted(len(found), 'function')} to {arguments.output}.")
    return 0


def _writer(path: Path) -> Callable[[Drawing], str]:
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"{path.name} has no suffix of a format for graphs. Use one of {' '.join(_WRITERS)}")
    return writer
