"""The transitions of tasks whose parents changed: released, failed with them, revived, or to be run again."""

from collections.abc import Sequence

from taskfleet.ledger import attempts, chaining, edges, releasing
from taskfleet.ledger.changes import BROKEN, PENDING, SUCCEEDED, WAITING, Changes
from taskfleet.ledger.database import as_json
from taskfleet.ledger.releasing import Follow, Released, Reuse
from taskfleet.tasks import State

_RESULTS = attempts.results_of("seq")


class DescendantTransitions(Changes):
    """The part of ``Transitions`` for descendants."""

    def release(self, parents: Sequence[int]) -> None:
        """Release the children of tasks that succeeded."""
        self._released(releasing.release(self._database, parents))

    def decrement_missing(self, children: Sequence[int]) -> None:
        """Decrement the number of missing parents of each child once per occurrence in a list; those that miss none become pending."""
        self._released(releasing.decrement_missing(self._database, children))

    def break_waiting(self, seqs: Sequence[int], root_seq: int, state: State) -> None:
        """Fail or kill tasks that wait, as ``state`` says, because the task ``root_seq`` failed or was killed."""
        broken = self._database.rows(
            f"UPDATE state SET state = ?, kind = ?, root_seq = ? "
            f"WHERE seq IN (SELECT value FROM json_each(?)) AND state = {State.WAITING} RETURNING seq",
            (int(state), BROKEN[state].kind, root_seq, as_json(seqs)),
        )
        self._move(WAITING, BROKEN[state], len(broken))
        (self._failed if state is State.FAILED else self._killed).extend([seq for (seq,) in broken])

    def blame(self, seq: int, state_before: State, root_seq: int, state: State) -> None:
        """Change the task because of which another one failed or was killed, which is now in ``state`` too."""
        self._database.execute(
            "UPDATE state SET root_seq = ?, state = ?, kind = ? WHERE seq = ?",
            (root_seq, int(state), BROKEN[state].kind, seq),
        )
        self._move(BROKEN[state_before], BROKEN[state], 1)
        self._blamed.append(seq)

    def revive_broken(self, seqs: Sequence[int]) -> None:
        """Let tasks wait again that failed or were killed because of others."""
        for state, counted in BROKEN.items():
            revived = self._database.rows(
                f"UPDATE state SET state = iif(missing > 0, {State.WAITING}, {State.PENDING}), kind = 0, root_seq = NULL, "
                f"reuse = iif(reuse = {Reuse.PARTS}, reuse, {Reuse.AFTER_FAILURE}) "
                f"WHERE seq IN (SELECT value FROM json_each(?)) AND state = {state} AND root_seq IS NOT NULL RETURNING seq, state",
                (as_json(seqs),),
            )
            self._queue(counted, revived)
            self._revived += [seq for seq, _ in revived]

    def increment_missing(self, children: Sequence[int]) -> None:
        """Increment the number of missing parents of each child once per occurrence in a list; running children continue."""
        self._database.execute_many(
            "UPDATE state SET missing = missing + 1 WHERE seq = ?", [(seq,) for seq in children]
        )
        self._hold(children)

    def run_again(self, seqs: Sequence[int]) -> list[int]:
        """Make tasks that succeeded pending, or waiting for parents that are to be run again; return those that had succeeded."""
        rows = self._database.rows(
            f"UPDATE state SET state = iif(missing > 0, {State.WAITING}, {State.PENDING}), reuse = {Reuse.COMPARE}, "
            f"available_at = 0, tries_from = attempt WHERE seq IN (SELECT value FROM json_each(?)) AND state = {State.SUCCEEDED} "
            "RETURNING seq, state",
            (as_json(seqs),),
        )
        self._check_parents(self._queue(SUCCEEDED, rows))
        return [seq for seq, _ in rows]

    def wait_again(self, seqs: Sequence[int]) -> list[int]:
        """Let tasks that succeeded wait for parents that are to be run again; return those that had succeeded.

        Their success counts again unless one of these has another result then.
        """
        rows = self._database.rows(
            f"UPDATE state SET state = {State.WAITING}, reuse = {Reuse.UNLESS_CHANGED}, tries_from = attempt "
            f"WHERE seq IN (SELECT value FROM json_each(?)) AND state = {State.SUCCEEDED} AND missing > 0 RETURNING seq",
            (as_json(seqs),),
        )
        self._move(SUCCEEDED, WAITING, len(rows))
        again = [seq for (seq,) in rows]
        self._check_parents(again)
        return again

    def discard_successes(self, seqs: Sequence[int]) -> None:
        """Discard earlier successes of waiting tasks, and the results of running attempts: a parent has another result."""
        self._database.execute(
            f"UPDATE state SET reuse = iif(state = {State.RUNNING}, {Reuse.STALE}, {Reuse.COMPARE}) "
            "WHERE seq IN (SELECT value FROM json_each(?)) "
            f"AND (reuse = {Reuse.UNLESS_CHANGED} OR state = {State.RUNNING})",
            (as_json(seqs),),
        )

    def start_epoch(self) -> None:
        """Forget all chains, and ignore what workers report of them later: messages of the queue are deleted, or are in another queue."""
        if self._database.execute("DELETE FROM chained").rowcount:
            self._database.execute(
                "UPDATE control SET version = version + 1"
            )  # workers are told not to go on with them
        self._totals[chaining.EPOCH] += 1

    def _released(self, released: Released) -> None:
        self._move(WAITING, PENDING, len(released.pending))
        if released.pending and self._is_remote():
            self._send_later(chaining.take_unsent(self._database, released.pending))
        if released.unchanged:
            with_parts = self._database.rows(
                f"SELECT seq FROM state WHERE seq IN (SELECT value FROM json_each(?)) AND reuse = {Reuse.PARTS}",
                (as_json(released.unchanged),),
            )
            releasing.note(self._database, [seq for (seq,) in with_parts], Follow.CHANGED)
            self._database.execute(
                f"UPDATE state SET state = {State.SUCCEEDED}, reuse = 0 WHERE seq IN (SELECT value FROM json_each(?))",
                (as_json(released.unchanged),),
            )
            self._move(WAITING, SUCCEEDED, len(released.unchanged))
            releasing.note(self._database, released.unchanged, Follow.SUCCESS)

    def _follow(self) -> None:
        """Release, or note for later, what depends on the tasks that this transaction changed."""
        if self._with_parts:
            self._split()
        noted = {
            Follow.FAILURE: self._failed,
            Follow.KILL: self._killed,
            Follow.REVIVAL: self._revived,
            Follow.CAUSE: self._blamed,
        }
        if not (self._succeeded or any(noted.values())) or not edges.exist(self._database):
            return
        releasing.note(self._database, self._failed_after_success(), Follow.CHANGED)
        for what, seqs in noted.items():
            releasing.note(self._database, seqs, what)
        if self._succeeded:
            self._run_stale_again()
            releasing.note(self._database, self._with_another_result(self._succeeded), Follow.CHANGED)
            self.release(self._succeeded)

    def join(self, seq: int, n: int, *, is_any_broken: bool) -> None:
        """Let a task that returned calls wait for ``n`` of them, instead of for their insertion."""
        self._database.execute("UPDATE state SET missing = missing + ? WHERE seq = ?", (n, seq))
        if is_any_broken:
            releasing.note(self._database, [seq], Follow.PARENTS)
        self.decrement_missing([seq])

    def _split(self) -> None:
        """Let tasks that returned calls wait for these."""
        rows = self._database.rows(
            f"UPDATE state SET state = {State.WAITING}, missing = missing + 1 WHERE seq IN (SELECT value FROM json_each(?)) "
            f"AND state = {State.SUCCEEDED} AND seq IN (SELECT seq FROM task WHERE function_id <> 0) RETURNING seq, reuse",
            (as_json(self._with_parts),),
        )
        seqs = [seq for seq, _ in rows]
        self._move(SUCCEEDED, WAITING, len(seqs))
        again = [seq for seq, reuse in rows if reuse]
        releasing.note(self._database, again, Follow.CHANGED)  # whatever the result will be
        self._database.execute(
            f"UPDATE state SET reuse = {Reuse.PARTS} WHERE seq IN (SELECT value FROM json_each(?))",
            (as_json(seqs),),
        )
        releasing.note(self._database, seqs, Follow.PARTS)
        split = set(seqs)
        self._succeeded = [seq for seq in self._succeeded if seq not in split]

    def _run_stale_again(self) -> None:
        """Run tasks again that succeeded with a result that a parent no longer has; for their children, they have not succeeded."""
        if not self._is_any_run_again():
            return
        stale = self._database.rows(
            f"SELECT seq FROM state WHERE seq IN (SELECT value FROM json_each(?)) AND reuse = {Reuse.STALE}",
            (as_json(self._succeeded),),
        )
        if stale:
            again = {seq for (seq,) in stale}
            self.run_again(sorted(again))
            chaining.forget_children(self._database, sorted(again))
            releasing.note(
                self._database, sorted(again), Follow.CHANGED
            )  # whatever the result is: this one was not passed on
            self._succeeded = [seq for seq in self._succeeded if seq not in again]

    def _hold(self, seqs: Sequence[int]) -> None:
        """Let pending tasks wait that did not wait when they were leased: a parent is to be run again."""
        if not seqs or not edges.exist(self._database):
            return
        held = self._database.rows(
            f"UPDATE state SET state = {State.WAITING} WHERE seq IN (SELECT value FROM json_each(?)) AND state = {State.PENDING} "
            "AND missing > 0 RETURNING seq",
            (as_json(seqs),),
        )
        self._database.execute_many("DELETE FROM unsent WHERE seq = ?", held)
        self._move(PENDING, WAITING, len(held))
        self._check_parents([seq for (seq,) in held])

    def _check_parents(self, seqs: Sequence[int]) -> None:
        """Note tasks that wait again, unless it is certain that each parent may still succeed."""
        if seqs and self._database.value(
            f"SELECT EXISTS (SELECT 1 FROM state WHERE state = {State.FAILED}) "
            f"OR EXISTS (SELECT 1 FROM state WHERE state = {State.KILLED})"
        ):
            releasing.note(self._database, seqs, Follow.PARENTS)

    def _is_any_run_again(self) -> bool:
        return bool(self._database.value("SELECT EXISTS (SELECT 1 FROM state WHERE reuse <> 0)"))

    def _with_another_result(self, seqs: Sequence[int]) -> list[int]:
        """Return those of tasks that succeeded which were run again and have another result than before."""
        if not self._is_any_run_again():
            return []
        rows = self._database.rows(
            f"SELECT seq, reuse = {Reuse.AFTER_FAILURE} OR ({_RESULTS} LIMIT 1) IS NOT ({_RESULTS} LIMIT 1 OFFSET 1) FROM state "
            "WHERE seq IN (SELECT value FROM json_each(?)) AND reuse <> 0",
            (as_json(seqs),),
        )
        self._database.execute_many("UPDATE state SET reuse = 0 WHERE seq = ?", [(seq,) for seq, _ in rows])
        return [seq for seq, differs in rows if differs]

    def _failed_after_success(self) -> list[int]:
        """Return those of tasks that failed or were killed which had succeeded before they were run again."""
        seqs = [*self._failed, *self._killed]
        if not seqs or not self._is_any_run_again():
            return []
        rows = self._database.rows(
            f"UPDATE state SET reuse = 0 WHERE seq IN (SELECT value FROM json_each(?)) "
            f"AND reuse IN ({Reuse.UNLESS_CHANGED}, {Reuse.COMPARE}) RETURNING seq",
            (as_json(seqs),),
        )
        return [seq for (seq,) in rows]
