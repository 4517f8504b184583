"""``poe results``: the table joined with what became of it."""

import sys
import time
from collections.abc import Iterator, Sequence

from taskfleet.commands.arguments import make_parser, open_job, users_path
from taskfleet.ledger import inquiry
from taskfleet.tasks import JSON, State
from taskfleet.watch.status import gather

EXAMPLES = """\
  poe results -o results.feather
  poe results -o results.csv        by suffix: .feather .parquet .csv .json .jsonl

Each row of the table is a row of the file: task_id, its columns, state, the result (a column 'result', or 'result_KEY' for each key of a
returned dict), failure_kind, error, attempts, elapsed_seconds, started_at (seconds since 1970), hostname."""


def run(argv: Sequence[str]) -> int:
    """Run the command."""
    parser = make_parser("results", "Write the table joined with results and failures to a file.", EXAMPLES)
    parser.add_argument("-o", dest="output", metavar="FILE", required=True, help="the file to write")
    arguments = parser.parse_args(argv)
    database = open_job(arguments, read_only=True)
    from taskfleet.tables import write_results

    path = users_path(arguments.output)
    status = gather(database, time.time())
    with database.snapshot():
        n = write_results(path, lambda: _shown(inquiry.results(database), status.total), columns=inquiry.RESULT_COLUMNS)
    left = status.total - status.ended
    print(
        f"Wrote {n:,} rows to {arguments.output}: {status.counts[State.SUCCEEDED]:,} succeeded, {status.counts[State.FAILED]:,} failed."
    )
    if left:
        print(f"{left:,} tasks are not done yet; their rows have no result.")
    return 0


def _shown(rows: Iterator[dict[str, JSON]], total: int) -> Iterator[dict[str, JSON]]:
    """Pass rows on; on a terminal a bar shows how far it is (twice: the columns are looked at first)."""
    if not sys.stderr.isatty():
        return rows
    from tqdm import tqdm

    return iter(tqdm(rows, total=total, unit="row", unit_scale=True, desc="Results", leave=False, dynamic_ncols=True))
