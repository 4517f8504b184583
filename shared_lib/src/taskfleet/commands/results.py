"""``poe results``: write the table joined with results and failures to a file."""

import sys
from collections.abc import Sequence

from taskfleet.api.looking import Rows, write_results
from taskfleet.errors import UsageError
from taskfleet.tasks import State
from taskfleet.terminal.arguments import configure, make_parser, users_path

EXAMPLES = """\
  poe results -o results.feather
  poe results -o results.csv        format by suffix: .feather .parquet .csv .json .jsonl

Each row of the table is a row of the file: task_id, its columns, state, the result (a column 'result', or 'result_KEY' for each key of a
returned dict), failure_kind, error, attempts, elapsed_seconds, started_at (seconds since 1970), hostname."""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("results", "Rows of tasks that have not ended have no result.", EXAMPLES)
    parser.add_argument("-o", "--output", dest="output", metavar="FILE", required=True, help="file to write")
    parser.add_argument(
        "--escape-formulas",
        action="store_true",
        help="CSV only: put ' before texts that begin with = + - @, tab or carriage return, which spreadsheets take for formulas",
    )
    arguments = parser.parse_args(argv)
    path = users_path(arguments.output)
    if arguments.escape_formulas and path.suffix.lower() != ".csv":
        raise UsageError(
            f"--escape-formulas is for CSV files only: write to a file that ends in .csv instead of {arguments.output}, or omit the option."
        )
    n, status = write_results(configure(arguments), path, escape_formulas=arguments.escape_formulas, show=_show)
    counts, left = status.counts, status.total - status.ended
    print(
        f"Wrote {n:,} rows to {arguments.output}: {counts[State.SUCCEEDED]:,} succeeded, {counts[State.FAILED]:,} failed."
    )
    if left:
        print(f"{left:,} tasks have not ended yet; their rows have no result.")
    return 0


def _show(rows: Rows, total: int) -> Rows:
    """Pass rows on; on a terminal a bar shows the progress (twice: the columns are determined first)."""
    if not sys.stderr.isatty():
        return rows
    from tqdm import tqdm

    return iter(tqdm(rows, total=total, unit="row", unit_scale=True, desc="Results", leave=False, dynamic_ncols=True))
