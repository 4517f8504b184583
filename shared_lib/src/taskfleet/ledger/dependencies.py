"""Queries about one task of a graph: what it waits for, what waits for it, and which failure is the cause of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from taskfleet.ledger import arguments, edges
from taskfleet.ledger.database import Database
from taskfleet.ledger.edges import Needs
from taskfleet.tasks import ATTEMPTS_PER_TASK, State

#: Parents that are examined in one run to find some that have not ended.
EXAMINED = 100_000
#: Steps from a task to one that it waits for, and from there on.
LONGEST_CHAIN = 10_000
_ERROR = (
    f"(SELECT error FROM attempt WHERE key > task.seq * {ATTEMPTS_PER_TASK} AND key < (task.seq + 1) * {ATTEMPTS_PER_TASK} "
    "ORDER BY key DESC LIMIT 1)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelatedTask:
    """A task on which another depends."""

    seq: int
    task_id: str
    state: State
    hostname: str | None = None
    """The host that runs it; None if it is not running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The failure because of which other tasks failed."""

    seq: int
    task_id: str
    state: State
    """FAILED or KILLED; another one if it is being run again."""
    reason: str
    """The first line of its error; empty if there is none."""

    @property
    def sentence(self) -> str:
        """What happened."""
        if self.state is State.KILLED:
            return f"{self.task_id} was killed"
        return f"{self.task_id} failed" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """How a task depends on others."""

    function: str
    """``module:function``; empty for a task of a table."""
    parents: int = 0
    missing: int = 0
    """Parents whose results or ends it waits for."""
    children: int = 0
    cause: Cause | None = None
    """Why it failed, if that was because of another task."""
    open_parents: Sequence[RelatedTask] = field(default=())
    """Some of those that it waits for: those that run first."""


def find_dependencies(database: Database, seq: int, *, examples: int = 3) -> Dependencies:
    """Return how a task depends on others; takes the same time for any number of tasks.

    Args:
        database: The ledger.
        seq: The number of the task.
        examples: The maximum number of parents to name.
    """
    function, data = database.row(  # type: ignore[misc]
        "SELECT coalesce((SELECT name FROM function WHERE function.function_id = task.function_id), ''), data FROM task WHERE seq = ?",
        (seq,),
    )
    if not function:
        return Dependencies(function="")
    state, missing, root_seq = database.row("SELECT state, missing, root_seq FROM state WHERE seq = ?", (seq,)) or (
        State.PENDING,
        0,
        None,
    )
    runs = set(arguments.parents(database, data))
    is_open = state in (State.WAITING, State.KILLED) and missing > 0
    return Dependencies(
        function=function,
        parents=sum(last - first + 1 for first, last, _ in runs),
        missing=missing,
        children=_count_children(database, seq),
        cause=None if root_seq is None else find_cause(database, root_seq),
        open_parents=_open_parents(database, sorted(runs), examples) if is_open else (),
    )


def find_cause(database: Database, root_seq: int) -> Cause:
    """Return the failure of a task as the cause of others."""
    task_id, state, error = database.row(  # type: ignore[misc]
        f"SELECT id, coalesce(state, {State.PENDING}), {_ERROR} FROM task LEFT JOIN state USING (seq) WHERE seq = ?",
        (root_seq,),
    )
    return Cause(seq=root_seq, task_id=task_id, state=State(state), reason=(error or "").partition("\n")[0])


def waits_in_the_end_for(database: Database, seq: int) -> RelatedTask | None:
    """Return a task that does not wait itself, on which a waiting task depends: over others, or directly."""
    found = None
    for _ in range(LONGEST_CHAIN):
        data = database.value("SELECT data FROM task WHERE seq = ?", (seq,))
        parents = _open_parents(database, sorted(set(arguments.parents(database, data))), 1)
        if not parents:
            return found
        [found] = parents
        if found.state is not State.WAITING:
            return found
        seq = found.seq
    return found


def root_causes(database: Database, most: int) -> list[tuple[Cause, int]]:
    """Return the causes of the failures of other tasks, with their numbers: the first ones, the most frequent of them first.

    Tasks that were killed because of others do not count: their causes were killed, not failed.
    """
    found: list[tuple[int, int]] = []
    root_seq = 0
    while len(found) < most:
        root_seq = database.value("SELECT min(root_seq) FROM state WHERE root_seq > ?", (root_seq,))
        if root_seq is None:
            break
        if database.value("SELECT state FROM state WHERE seq = ?", (root_seq,)) == State.KILLED:
            continue
        found.append((database.value("SELECT count(*) FROM state WHERE root_seq = ?", (root_seq,)), root_seq))
    return [(find_cause(database, seq), n) for n, seq in sorted(found, key=lambda one: (-one[0], one[1]))]


def failed_ancestors(database: Database, seq: int) -> list[str]:
    """Return the ids of the tasks whose failures are the causes of a task's own: all of them, not only the first."""
    found: dict[int, str] = {}
    seen, left = {seq}, [seq]
    while left:
        data = database.value("SELECT data FROM task WHERE seq = ?", (left.pop(),))
        for first, last, needs in set(arguments.parents(database, data)):
            if needs != Needs.SUCCESS:
                continue
            for parent, task_id, root_seq in database.rows(
                "SELECT seq, id, root_seq FROM state JOIN task USING (seq) WHERE seq BETWEEN ? AND ? "
                f"AND state IN ({State.FAILED}, {State.KILLED})",
                (first, last),
            ):
                if root_seq is not None:
                    left += [parent] if parent not in seen else []
                    seen.add(parent)
                else:
                    found[parent] = task_id
    return [found[parent] for parent in sorted(found)]


def _count_children(database: Database, seq: int) -> int:
    single: int = database.value("SELECT count(*) FROM edge WHERE parent = ?", (seq,))
    return single + sum(len(link.children_of(seq)) for link in edges.links_of(database, seq, seq))


def _open_parents(database: Database, runs: Sequence[tuple[int, int, Needs]], most: int) -> list[RelatedTask]:
    """Return some of the tasks in runs that have not ended or, if their success is needed, did not succeed: running ones first."""
    found: dict[int, RelatedTask] = {}
    for is_running in (True, False):
        for first, last, needs in runs:
            for seq, task_id, state, hostname in _open_in_run(
                database, first, last, needs, most, is_running=is_running
            ):
                found.setdefault(seq, RelatedTask(seq=seq, task_id=task_id, state=State(state), hostname=hostname))
                if len(found) == most:
                    return list(found.values())
    return list(found.values())


def _open_in_run(
    database: Database, first: int, last: int, needs: Needs, most: int, *, is_running: bool
) -> Iterator[tuple[int, str, int, str | None]]:
    if is_running:
        yield from database.rows(
            "SELECT seq, id, state, hostname FROM state INDEXED BY state_running JOIN task USING (seq) LEFT JOIN worker USING (worker_id) "
            f"WHERE state = {State.RUNNING} AND seq BETWEEN ? AND ? LIMIT ?",
            (first, last, most),
        )
        return
    ended = [State.SUCCEEDED] if needs == Needs.SUCCESS else [State.SUCCEEDED, State.FAILED, State.KILLED]
    yield from database.rows(
        "SELECT seq, id, state, NULL FROM (SELECT seq, state FROM state WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?) "
        f"JOIN task USING (seq) WHERE state NOT IN ({', '.join(str(int(one)) for one in ended)}) LIMIT ?",
        (first, last, EXAMINED, most),
    )
    yield from database.rows(
        f"SELECT task.seq, id, {State.PENDING}, NULL FROM segment JOIN task ON task.seq BETWEEN max(next_seq, ?) AND min(last_seq, ?) "
        "LEFT JOIN state USING (seq) WHERE state.seq IS NULL AND last_seq >= ? AND first_seq <= ? LIMIT ?",
        (first, last, first, last, most),
    )
