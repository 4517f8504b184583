"""The graph of a job by functions: which there are, which take results of which, and how many tasks of each are in each state.

It is recorded when calls are inserted: one row for a run of consecutive tasks of a function, and one for two functions with a dependency.
So drawing it takes one scan of the states of the tasks, and none of the tasks or their dependencies.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.edges import Needs
from taskfleet.tasks import MPI_PREFIX, State

#: Bits for the number of tasks in one state, and the tasks that are counted in one number of 63 bits.
_BITS = 12
_COUNTED_AT_ONCE = (1 << _BITS) - 1
_PACKED = f"SELECT count(*), coalesce(sum(1 << ({_BITS} * state)), 0) FROM state WHERE seq BETWEEN ? AND ? AND state < {len(State) - 1}"
#: With more runs than this, functions alternate so often that the tasks are counted one by one.
_MOST_RUNS = 2000
#: SQL for the name by which workers load a row of the table function: that of a pickle for functions by value, after the number of MPI
#: processes that call it, if there are any (``tasks.processes_of``).
LOADED_NAME = (
    f"iif(instr(options, '\"mpi\":'), '{MPI_PREFIX}' || json_extract(options, '$.mpi') || ':', '') || "
    "iif(instr(options, '\"stored\":'), json_extract(options, '$.stored'), name)"
)
#: SQL for the same of a row of the table task; empty for a row of a table of tasks.
LOADED_NAME_OF_TASK = (
    f"CASE task.function_id WHEN 0 THEN '' ELSE (SELECT {LOADED_NAME} FROM function "
    "WHERE function_id = task.function_id) END"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCounts:
    """A function of the graph, and its tasks."""

    name: str
    """``module:function``."""
    counts: dict[State, int]

    @property
    def total(self) -> int:
        """The number of its tasks."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionEdge:
    """Two functions, one of which takes results of the other."""

    parent: str
    child: str
    needs: Needs


def record_functions(database: Database, seqs: Sequence[int], function_ids: Sequence[int]) -> None:
    """Record the functions of new tasks.

    Args:
        database: The ledger.
        seqs: The numbers of the tasks, consecutive.
        function_ids: The function of each.
    """
    runs: list[list[int]] = []
    if len(set(function_ids)) == 1:
        runs = [[seqs[0], seqs[-1], function_ids[0]]]
    else:
        for seq, function_id in zip(seqs, function_ids, strict=True):
            if runs and runs[-1][2] == function_id:
                runs[-1][1] = seq
            else:
                runs.append([seq, seq, function_id])
    if runs:
        first, last, function_id = runs[0]
        grown = database.execute(
            "UPDATE function_run SET last_seq = ? WHERE first_seq = (SELECT max(first_seq) FROM function_run) "
            "AND last_seq = ? AND function_id = ?",
            (last, first - 1, function_id),
        ).rowcount
        database.execute_many(
            "INSERT INTO function_run (first_seq, last_seq, function_id) VALUES (?, ?, ?)", runs[grown:]
        )


def change_function(database: Database, seq: int, function_id: int) -> None:
    """Record that another function runs a task."""
    first, last, old = database.row(  # type: ignore[misc]
        "SELECT first_seq, last_seq, function_id FROM function_run WHERE first_seq <= ? ORDER BY first_seq DESC LIMIT 1",
        (seq,),
    )
    runs = [(first, seq - 1, old), (seq, seq, function_id), (seq + 1, last, old)]
    database.execute("DELETE FROM function_run WHERE first_seq = ?", (first,))
    database.execute_many(
        "INSERT INTO function_run (first_seq, last_seq, function_id) VALUES (?, ?, ?)",
        [run for run in runs if run[0] <= run[1]],
    )
    for mine, other in (("child_id", "parent_id"), ("parent_id", "child_id")):
        database.execute(
            f"INSERT INTO function_edge ({mine}, {other}, needs) SELECT ?, {other}, needs FROM function_edge WHERE {mine} = ? "
            "ON CONFLICT DO NOTHING",
            (function_id, old),
        )
    if not database.value("SELECT EXISTS (SELECT 1 FROM function_run WHERE function_id = ?)", (old,)):
        database.execute("DELETE FROM function_edge WHERE ? IN (parent_id, child_id)", (old,))


def record_edges(
    database: Database, dependencies: Mapping[tuple[int, int], int], functions_of_new: Mapping[int, int]
) -> None:
    """Record which functions take results of which.

    Args:
        database: The ledger.
        dependencies: What a task needs of another one, by their numbers (parent, child).
        functions_of_new: The functions of new tasks, by the tasks' numbers.
    """
    older = {parent for parent, _ in dependencies if parent not in functions_of_new}
    functions = {**functions_of_new, **_functions_of(database, older)} if older else functions_of_new
    pairs = {(functions[parent], functions[child], int(needs)) for (parent, child), needs in dependencies.items()}
    database.execute_many(
        "INSERT INTO function_edge (parent_id, child_id, needs) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", sorted(pairs)
    )


def function_edges(database: Database) -> list[FunctionEdge]:
    """Return which functions take results of which."""
    return [
        FunctionEdge(parent=parent, child=child, needs=Needs(needs))
        for parent, child, needs in database.rows(
            "SELECT p.name, c.name, needs FROM function_edge JOIN function AS p ON p.function_id = parent_id "
            "JOIN function AS c ON c.function_id = child_id ORDER BY parent_id, child_id, needs"
        )
    ]


def has_functions(database: Database) -> bool:
    """Return whether the job has tasks of a graph."""
    return bool(database.value("SELECT EXISTS (SELECT 1 FROM function_run)"))


def count_runs(database: Database) -> tuple[int, int]:
    """Return the number of tasks of the graph, and of runs of consecutive ones with the same function."""
    return database.row("SELECT coalesce(sum(last_seq - first_seq + 1), 0), count(*) FROM function_run")  # type: ignore[return-value]


def count_by_function(database: Database) -> list[FunctionCounts]:
    """Return how many tasks of each function are in each state, in the order in which the functions were first called.

    It takes a tenth of a second for a million tasks.
    """
    # Functions are numbered before they are called, with all others that the script knows.
    names: dict[int, str] = dict(
        database.rows(
            "SELECT function_id, name FROM function JOIN function_run USING (function_id) "
            "GROUP BY function_id ORDER BY min(first_seq)"
        )
    )
    found = {function_id: dict.fromkeys(State, 0) for function_id in names}
    _, n_runs = count_runs(database)
    for function_id, counts in _counts_of_runs(database) if n_runs <= _MOST_RUNS else _counts_of_tasks(database):
        for state, n in counts.items():
            found[function_id][state] += n
    return [FunctionCounts(name=names[one], counts=counts) for one, counts in found.items() if sum(counts.values())]


def _counts_of_runs(database: Database) -> Iterable[tuple[int, dict[State, int]]]:
    """Yield a function with the states of some of its tasks, which are counted by one number per query."""
    for first, last, function_id in database.rows("SELECT first_seq, last_seq, function_id FROM function_run"):
        for begin in range(first, last + 1, _COUNTED_AT_ONCE):
            end = min(begin + _COUNTED_AT_ONCE - 1, last)
            with_row, packed = database.row(_PACKED, (begin, end))  # type: ignore[misc]
            counts = {state: packed >> _BITS * state & _COUNTED_AT_ONCE for state in list(State)[:-1]}
            if with_row < end - begin + 1:  # the others were killed, or have no row yet
                killed = database.value(
                    f"SELECT count(*) FROM state WHERE seq BETWEEN ? AND ? AND state = {State.KILLED}", (begin, end)
                )
                counts[State.KILLED] = killed
                counts[State.PENDING] += end - begin + 1 - with_row - killed
            yield function_id, counts


def _counts_of_tasks(database: Database) -> Iterable[tuple[int, dict[State, int]]]:
    """Yield the same, for functions that alternate."""
    rows = database.stream(
        f"SELECT task.function_id, coalesce(state, {State.PENDING}) FROM function_run "
        "JOIN task ON task.seq BETWEEN first_seq AND last_seq LEFT JOIN state USING (seq)"
    )
    for (function_id, state), n in Counter(rows).items():
        yield function_id, {State(state): n}


def _functions_of(database: Database, seqs: Iterable[int]) -> dict[int, int]:
    """Return the functions of tasks; 0 for those that call TASK_FUNCTION."""
    found: dict[int, int | None] = dict(
        database.rows(
            "SELECT value, (SELECT function_id FROM function_run WHERE first_seq <= value AND last_seq >= value "
            "ORDER BY first_seq DESC LIMIT 1) FROM json_each(?)",
            (as_json(sorted(seqs)),),
        )
    )
    return {seq: function_id or 0 for seq, function_id in found.items()}
