"""Cancels tasks: pending and waiting ones are killed at once, running ones by their workers, which look at ``kill``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from taskfleet.ledger import counters, edges, frontier
from taskfleet.ledger.cancel_transitions import Cancelled
from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.transitions import changing
from taskfleet.tasks import State

#: Tasks in one transaction, so that workers do not wait for long.
STEP = 50_000
#: The same in a graph, where the dependent tasks of each have to be noted.
STEP_IN_GRAPH = 5000
#: The states of tasks that can be cancelled.
OPEN = (State.PENDING, State.WAITING, State.RUNNING)
_ENDED = (State.SUCCEEDED, State.FAILED, State.KILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The tasks to cancel: those with these ids, and those in these states of a function or of all."""

    ids: Sequence[str] = ()
    states: Sequence[State] = ()
    function_id: int | None = None
    """None for tasks of any function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReport:
    """What the cancelled tasks were."""

    pending: int = 0
    waiting: int = 0
    running: int = 0
    """Their workers kill them; one that succeeds before that stays so."""
    ended: int = 0
    """Tasks that had ended already, and stay as they are."""
    unknown: int = 0
    """Ids that the job does not have."""

    @property
    def cancelled(self) -> int:
        """The number of cancelled tasks."""
        return self.pending + self.waiting + self.running


def find_functions(database: Database, name: str) -> dict[str, int]:
    """Return the functions of the job's graph with a name, ``module:function`` or ``function``: number by full name."""
    known = database.rows("SELECT name, function_id FROM function")
    return {full: number for full, number in known if name in (full, full.rpartition(":")[2])}


def count(database: Database, selection: Selection) -> CancelReport:
    """Return what ``cancel`` would find now."""
    report = CancelReport(unknown=len(set(selection.ids)) - len(_numbers(database, selection.ids)))
    by_state = dict.fromkeys(State, 0)
    for state, n in database.rows(
        f"SELECT coalesce(state, {State.PENDING}), count(*) FROM json_each(?) LEFT JOIN state ON seq = value GROUP BY 1",
        (as_json(_numbers(database, selection.ids)),),
    ):
        by_state[State(state)] += n
    if selection.function_id is not None:
        for state, n in database.rows(
            f"SELECT coalesce(state, {State.PENDING}), count(*) FROM task LEFT JOIN state USING (seq) WHERE function_id = ? GROUP BY 1",
            (selection.function_id,),
        ):
            by_state[State(state)] += n
    elif selection.states:
        of_job = counters.by_state(database)
        wanted = State if set(selection.states) == set(OPEN) else selection.states
        for state in wanted:
            by_state[state] += of_job[state]
    return CancelReport(
        pending=by_state[State.PENDING],
        waiting=by_state[State.WAITING],
        running=by_state[State.RUNNING],
        ended=sum(by_state[state] for state in _ENDED),
        unknown=report.unknown,
    )


def cancel(database: Database, selection: Selection) -> CancelReport:
    """Cancel tasks. Tasks that wait for them are killed too; ``repair.retry`` puts all of them back."""
    before = count(database, selection)
    total = Cancelled()
    step = STEP_IN_GRAPH if edges.exist(database) else STEP
    seqs = _numbers(database, selection.ids)
    for start in range(0, len(seqs), step):
        total = total.plus(_cancel(database, seqs[start : start + step]))
    after = 0
    while selection.states and (seqs := _next(database, selection, after, step)):
        total = total.plus(_cancel(database, seqs))
        after = seqs[-1]
    frontier.carry(database)
    return CancelReport(
        pending=total.pending, waiting=total.waiting, running=total.running, ended=before.ended, unknown=before.unknown
    )


def _cancel(database: Database, seqs: Sequence[int]) -> Cancelled:
    with changing(database) as change:
        return change.cancel(seqs)


def _numbers(database: Database, ids: Sequence[str]) -> list[int]:
    return [
        seq
        for (seq,) in database.rows(
            "SELECT DISTINCT seq FROM json_each(?) JOIN task_id ON task_id.id = value ORDER BY seq",
            (json.dumps(list(ids)),),
        )
    ]


def _next(database: Database, selection: Selection, after: int, most: int) -> list[int]:
    """Return the first selected tasks with numbers above ``after``."""
    which, parameters = ("", ()) if selection.function_id is None else ("AND function_id = ?", (selection.function_id,))
    states = ", ".join(str(int(state)) for state in selection.states)
    rows = database.rows(
        f"SELECT task.seq FROM task LEFT JOIN state USING (seq) WHERE task.seq > ? AND coalesce(state, {State.PENDING}) IN ({states}) "
        f"{which} ORDER BY task.seq LIMIT ?",
        (after, *parameters, most),
    )
    return [seq for (seq,) in rows]
