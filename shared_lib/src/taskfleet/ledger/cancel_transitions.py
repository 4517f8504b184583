"""The transitions of tasks that a user cancels, and of their attempts."""

from collections.abc import Sequence
from typing import NamedTuple

from taskfleet.ledger import segments
from taskfleet.ledger.changes import KILLED, PENDING, WAITING, Count
from taskfleet.ledger.database import as_json
from taskfleet.ledger.descendants import DescendantTransitions
from taskfleet.tasks import State

_MARK = (
    "INSERT OR IGNORE INTO kill (seq) SELECT seq FROM state WHERE seq IN (SELECT value FROM json_each(?)) AND state = ?"
)


class Cancelled(NamedTuple):
    """What tasks were that a user cancelled."""

    pending: int = 0
    waiting: int = 0
    running: int = 0
    """Their workers are told to kill them."""

    def plus(self, other: "Cancelled") -> "Cancelled":
        """Return the sums."""
        return Cancelled(*map(sum, zip(self, other, strict=True)))


class CancelTransitions(DescendantTransitions):
    """The part of ``Transitions`` for cancelled tasks."""

    def cancel(self, seqs: Sequence[int]) -> Cancelled:
        """Kill those tasks that are pending or waiting, have workers kill those that are running, and leave the others."""
        database, numbers = self._database, as_json(seqs)
        is_remote = self._is_remote()
        marked = _MARK + (f" AND (state = {State.RUNNING} OR seq NOT IN (SELECT seq FROM unsent))" if is_remote else "")
        states = (State.RUNNING, State.PENDING) if is_remote else (State.RUNNING,)
        for state in states:
            self._note_cancelled(database.execute(marked, (numbers, state)).rowcount)
        if is_remote:  # the worker of its parent may send it
            self._note_cancelled(
                database.execute(f"{_MARK} AND seq IN (SELECT seq FROM chained)", (numbers, State.WAITING)).rowcount
            )
        killed = {}
        for state in (State.PENDING, State.WAITING):
            changed = database.rows(
                f"UPDATE state SET state = {State.KILLED}, available_at = 0 "
                f"WHERE seq IN (SELECT value FROM json_each(?)) AND state = {state} RETURNING seq",
                (numbers,),
            )
            database.execute_many("DELETE FROM unsent WHERE seq = ?", changed)
            self._move(Count(state), KILLED, len(changed))
            self._killed += [seq for (seq,) in changed]
            killed[state] = len(changed)
        running = database.value(
            f"SELECT count(*) FROM state WHERE seq IN (SELECT value FROM json_each(?)) AND state = {State.RUNNING}",
            (numbers,),
        )
        fresh = self._cancel_fresh(seqs, is_remote=is_remote)
        return Cancelled(pending=killed[State.PENDING] + fresh, waiting=killed[State.WAITING], running=running)

    def _cancel_fresh(self, seqs: Sequence[int], *, is_remote: bool) -> int:
        """Kill those tasks that have no row in ``state``; return their number."""
        database = self._database
        fresh, sent = [], []
        for segment, of_segment in segments.fresh(database, seqs):
            fresh += of_segment
            if is_remote:
                sent += [seq for seq in of_segment if seq <= segment.sent_seq]
                continue
            database.execute("DELETE FROM segment WHERE first_seq = ?", (segment.first_seq,))
            database.execute_many(  # the cursor of a segment must not pass a task with a row
                "INSERT INTO segment (first_seq, next_seq, last_seq) VALUES (?, ?, ?)",
                [(first, first, last) for first, last in segments.without(segment, of_segment)],
            )
        database.execute_many(f"INSERT INTO state (seq, state) VALUES (?, {State.KILLED})", [(seq,) for seq in fresh])
        self._note_cancelled(
            database.execute_many("INSERT OR IGNORE INTO kill (seq) VALUES (?)", [(seq,) for seq in sent])
        )
        self._move(PENDING, KILLED, len(fresh))
        self._killed += fresh
        return len(fresh)

    def is_cancelled(self, seq: int) -> bool:
        """Return whether a running task was cancelled."""
        return bool(self._database.value("SELECT EXISTS (SELECT 1 FROM kill WHERE seq = ?)", (seq,)))

    def spare(self, seq: int | None = None) -> int:
        """Take back the cancellation of a running task, or of all; return their number."""
        which, parameters = ("", ()) if seq is None else ("AND seq = ?", (seq,))
        running = self._database.rows(
            f"SELECT seq FROM kill JOIN state USING (seq) WHERE state = {State.RUNNING} {which}", parameters
        )
        self.forget_cancelled([seq for (seq,) in running])
        return len(running)

    def forget_cancelled(self, seqs: Sequence[int]) -> None:
        """Forget that tasks were cancelled: they have ended, or may run again."""
        if seqs and self._database.value("SELECT EXISTS (SELECT 1 FROM kill)"):
            self._note_cancelled(
                self._database.execute(
                    "DELETE FROM kill WHERE seq IN (SELECT value FROM json_each(?))", (as_json(seqs),)
                ).rowcount
            )

    def forget_messages(self) -> None:
        """Forget which messages of a service queue have cancelled tasks, because its messages are deleted."""
        self._kill_cancelled()
        self._forget_ended()

    def stop_chains(self) -> None:
        """Cancel the tasks that workers would send once their running tasks succeed, because the queue is purged."""
        self._note_cancelled(
            self._database.execute(
                "INSERT OR IGNORE INTO kill (seq) SELECT chained.seq FROM chained JOIN state AS above ON above.seq = parent "
                f"JOIN state ON state.seq = chained.seq WHERE above.state = {State.RUNNING} AND state.state = {State.KILLED}"
            ).rowcount
        )
        self.start_epoch()

    def _forget_ended(self) -> None:
        self._note_cancelled(
            self._database.execute(
                f"DELETE FROM kill WHERE seq NOT IN (SELECT seq FROM state WHERE state = {State.RUNNING})"
            ).rowcount
        )

    def _note_cancelled(self, n: int) -> None:
        if n > 0:
            self._database.execute("UPDATE control SET version = version + 1")

    def _kill_cancelled(self) -> None:
        """Kill the cancelled tasks that came back from their worker, and forget those that ended."""
        database = self._database
        if not self._have_left_workers or not database.value("SELECT EXISTS (SELECT 1 FROM kill)"):
            return
        for counted in (PENDING, WAITING):  # it waits if a parent is to be run again
            killed = database.rows(
                f"UPDATE state SET state = {State.KILLED}, available_at = 0 "
                f"WHERE state = {counted.state} AND seq IN (SELECT seq FROM kill) RETURNING seq"
            )
            self._move(counted, KILLED, len(killed))
            self._killed += [seq for (seq,) in killed]
        if not self._is_remote():
            self._forget_ended()
