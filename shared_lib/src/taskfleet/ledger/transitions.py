"""The state transitions of tasks. No other module writes the state of tasks.

A transition updates, in the same transaction, everything that depends on it: the counts by state, the totals, the throughput, the attempts
and the tasks that have to be sent to a service queue. Other modules decide which transition to make: ``leasing`` for the embedded queue,
``recording`` for events, ``repair`` and ``moving`` for commands of users.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from taskfleet.ledger import attempts, counters, edges, segments
from taskfleet.ledger.cancel_transitions import CancelTransitions
from taskfleet.ledger.changes import ENDED, KILLED, PENDING, RUNNING, SUCCEEDED, WAITING, Count
from taskfleet.ledger.database import Database, as_json
from taskfleet.ledger.function_graph import LOADED_NAME_OF_TASK
from taskfleet.ledger.releasing import Reuse
from taskfleet.ledger.task_states import PURGED, TaskState
from taskfleet.tasks import LAST_ATTEMPT, NO_RETRY, Finished, Lease, Outcome, State

#: An attempt is identified by its number and its worker. After it has lost its lease, no row matches.
_FENCE = f"WHERE seq = ? AND attempt = ? AND worker_id = ? AND state = {State.RUNNING}"
_SUCCEED = f"UPDATE state SET state = {State.SUCCEEDED}, worker_id = NULL {_FENCE}"
_FAIL = f"UPDATE state SET state = {State.FAILED}, worker_id = NULL, kind = ? {_FENCE}"
_KILL = f"UPDATE state SET state = {State.KILLED}, worker_id = NULL, available_at = 0 {_FENCE}"
_RETRY_LATER = f"UPDATE state SET state = {State.PENDING}, worker_id = NULL, available_at = ? {_FENCE}"
_GIVE_BACK = (
    f"UPDATE state SET state = {State.PENDING}, worker_id = NULL, available_at = 0, attempt = attempt - 1 {_FENCE}"
)
#: Adds a row for each task of the segments that has none.
_LEAVE_SEGMENTS = (
    f"INSERT INTO state (seq, state) SELECT task.seq, {State.PENDING} FROM segment "
    "JOIN task ON task.seq BETWEEN next_seq AND last_seq LEFT JOIN state ON state.seq = task.seq WHERE state.seq IS NULL"
)


@contextmanager
def changing(database: Database, *, durable: bool = False) -> Iterator["Transitions"]:
    """Open a transaction for state transitions; the counts are written at its end. For ``durable`` see ``Database.transaction``."""
    with database.transaction(durable=durable):
        change = Transitions(database)
        yield change
        change._kill_cancelled()
        change._follow()
        change._write_counts()


def lease_columns(attempt: str) -> str:
    """Return the columns to select from ``task`` for a lease: SQL expressions in the order of its fields.

    Args:
        attempt: The SQL expression for the attempt's number.
    """
    columns = {
        "seq": "task.seq",
        "attempt": attempt,
        "task_id": "task.id",
        "data": "task.data",
        "function": LOADED_NAME_OF_TASK,
    }
    return ", ".join(columns[name] for name in Lease._fields)


class Transitions(CancelTransitions):
    """The transitions of one transaction; see ``changing``."""

    # --- into the queue ---

    def accept(self, runs: Sequence[tuple[int, int]], n: int) -> None:
        """Make ``n`` new tasks pending, whose numbers are in runs (first, last); each run becomes a segment."""
        self._database.execute_many(
            "INSERT INTO segment (first_seq, next_seq, last_seq) VALUES (?, ?, ?)",
            [(first_seq, first_seq, last_seq) for first_seq, last_seq in runs],
        )
        self._add(n)

    def accept_singly(self, first_seq: int) -> int:
        """Make the new tasks from a number on pending, each with a row in ``state``; return their number."""
        n = self._database.execute(
            f"INSERT INTO state (seq, state) SELECT seq, {State.PENDING} FROM task WHERE seq >= ?", (first_seq,)
        ).rowcount
        if self._is_remote():
            self._database.execute("INSERT INTO unsent (seq) SELECT seq FROM task WHERE seq >= ?", (first_seq,))
        self._add(n)
        return n

    def accept_calls(self, waiting: Sequence[tuple[int, int]], ready: Sequence[int]) -> None:
        """Add new tasks of a graph.

        Args:
            waiting: Those that wait for others: (number, how many it waits for).
            ready: The numbers of the others.
        """
        first, last = min(waiting, default=(0, 0))[0], max(waiting, default=(0, 0))[0]
        if last - first + 1 == len(waiting) and len(counts := {n for _, n in waiting}) == 1:  # a third of the time
            self._database.execute(
                f"INSERT INTO state (seq, state, missing) SELECT seq, {State.WAITING}, ? FROM task WHERE seq BETWEEN ? AND ?",
                (counts.pop(), first, last),
            )
        else:
            self._database.execute_many(
                f"INSERT INTO state (seq, state, missing) VALUES (?, {State.WAITING}, ?)", waiting
            )
        self._database.execute_many(
            f"INSERT INTO state (seq, state) VALUES (?, {State.PENDING})", [(seq,) for seq in ready]
        )
        self._send_later(ready)
        self._counts[WAITING] += len(waiting)
        self._add(len(ready))
        self._totals["inserted"] += len(waiting)

    def _add(self, n: int) -> None:
        self._counts[PENDING] += n
        self._totals["inserted"] += n

    # --- leases ---

    def lease(self, worker_id: int, seqs: Sequence[int]) -> None:
        """Lease pending tasks to a worker. A task that has used all attempt numbers (by interruptions or retries) keeps the last one."""
        if not seqs:
            return
        n = self._database.execute(
            f"UPDATE state SET state = {State.RUNNING}, attempt = min(attempt + 1, {LAST_ATTEMPT}), worker_id = ?, "
            f"reuse = iif(reuse = {Reuse.STALE}, {Reuse.COMPARE}, reuse) "
            f"WHERE seq IN (SELECT value FROM json_each(?)) AND state = {State.PENDING}",
            (worker_id, as_json(seqs)),
        ).rowcount
        self._move(PENDING, RUNNING, n)

    def lease_fresh(self, worker_id: int, most: int, skip: int) -> list[Lease] | None:
        """Lease up to ``most`` tasks of one segment to a worker, beyond the first ``skip`` of the job.

        Returns:
            The leases, none if the segment has a gap there; None if there is no such segment.
        """
        database = self._database
        segment = segments.first_open(database, skip)
        if segment is None:
            return None
        first_seq, next_seq, last_seq = segment.first_seq, segment.next_seq, segment.last_seq
        if next_seq <= skip:  # split the segment
            database.execute("UPDATE segment SET last_seq = ? WHERE first_seq = ?", (skip, first_seq))
            first_seq = next_seq = skip + 1
            database.execute(
                "INSERT INTO segment (first_seq, next_seq, last_seq) VALUES (?, ?, ?)", (first_seq, next_seq, last_seq)
            )
        rows = database.rows(
            f"SELECT {lease_columns('1')} FROM task WHERE seq >= ? AND seq <= ? ORDER BY seq LIMIT ?",
            (next_seq, last_seq, most),
        )
        leases = [Lease._make(row) for row in rows]
        end = leases[-1].seq + 1 if len(leases) == most else last_seq + 1
        self._use_up(first_seq, end, last_seq)
        database.execute(
            f"INSERT INTO state (seq, state, attempt, worker_id) SELECT seq, {State.RUNNING}, 1, ? FROM task "
            "WHERE seq >= ? AND seq < ?",
            (worker_id, next_seq, end),
        )
        self._move(PENDING, RUNNING, len(leases))
        return leases

    def give_back(self, worker_id: int, leases: Sequence[Lease]) -> None:
        """Make tasks pending that their worker did not begin, as if they had not been leased."""
        n = self._database.execute_many(_GIVE_BACK, [(one.seq, one.attempt, worker_id) for one in leases])
        self._move(RUNNING, PENDING, n)
        self._hold([one.seq for one in leases])

    def put_back(self, worker_id: int | None = None) -> int:
        """Make the running tasks of one or all workers pending, or killed if their queue was purged meanwhile.

        This does not count against the tasks' retries.

        Returns:
            The number of tasks.
        """
        whose, parameters = ("", ()) if worker_id is None else ("AND worker_id = ?", (worker_id,))
        total = 0
        for state, condition in ((State.KILLED, f"AND available_at = {PURGED}"), (State.PENDING, "")):
            statement = (
                f"UPDATE state SET state = {state}, worker_id = NULL, available_at = 0 "
                f"WHERE state = {State.RUNNING} {condition} {whose}"
            )
            seqs = [seq for (seq,) in self._database.rows(f"{statement} RETURNING seq", parameters)]
            self._move(RUNNING, Count(state), len(seqs))
            if state is State.KILLED:
                self._killed += seqs
            else:
                self._hold(seqs)
            total += len(seqs)
        return total

    # --- ends of attempts ---

    def succeed(self, worker_id: int, finished: Sequence[Finished], now: float) -> list[Finished]:
        """Record successful attempts of a worker; return those that have lost their lease and change nothing."""
        database = self._database
        refused: list[Finished] = []
        database.execute("SAVEPOINT successes")
        n = database.execute_many(_SUCCEED, [(f.seq, f.attempt, worker_id) for f in finished])
        if n != len(finished):
            database.execute("ROLLBACK TO successes")
            recorded: list[Finished] = []
            for f in finished:
                is_held = database.execute(_SUCCEED, (f.seq, f.attempt, worker_id)).rowcount == 1
                (recorded if is_held else refused).append(f)
            finished = recorded
        database.execute("RELEASE successes")
        self._end(RUNNING, SUCCEEDED, [f.seq for f in finished], now)
        self._with_parts += attempts.with_parts(finished)
        attempts.keep(database, worker_id, finished)
        counters.add_durations(database, [f.elapsed_seconds for f in finished])
        self.count_duplicates(len({f.key for f in refused}))
        return refused

    def fail(self, worker_id: int, finished: Finished, now: float) -> bool:
        """Record an unsuccessful attempt that is the task's last; return False if it has lost its lease."""
        kind = kind_of_failure(finished)
        if self._database.execute(_FAIL, (kind, finished.seq, finished.attempt, worker_id)).rowcount != 1:
            self.count_duplicates(1)
            return False
        self._end(RUNNING, Count(State.FAILED, kind), [finished.seq], now)
        attempts.keep(self._database, worker_id, [finished])
        return True

    def retry_later(self, worker_id: int, finished: Finished, delay_seconds: float, now: float) -> bool:
        """Record an unsuccessful attempt that is followed by another; return False if it has lost its lease."""
        available_at = now + delay_seconds if delay_seconds else 0.0
        fence = (finished.seq, finished.attempt, worker_id)
        if self._database.execute(_RETRY_LATER, (available_at, *fence)).rowcount != 1:
            self.count_duplicates(1)
            return False
        self._move(RUNNING, PENDING, 1)
        self._hold([finished.seq])
        attempts.keep(self._database, worker_id, [finished])
        self.count_retries([finished])
        return True

    def end_killed(self, worker_id: int, finished: Finished, now: float) -> bool:
        """Record an attempt that its worker killed; return False if it has lost its lease.

        If it was cancelled, and the user has taken that back meanwhile, the task becomes pending.
        """
        if finished.retry_delay_seconds != NO_RETRY and not self.is_cancelled(finished.seq):
            return self.retry_later(worker_id, finished, 0.0, now)
        if self._database.execute(_KILL, (finished.seq, finished.attempt, worker_id)).rowcount != 1:
            self.count_duplicates(1)
            return False
        self._move(RUNNING, KILLED, 1)
        self._killed.append(finished.seq)
        attempts.keep(self._database, worker_id, [finished])
        return True

    def settle(self, before: Mapping[int, TaskState], after: Mapping[int, TaskState], now: float) -> None:
        """Write the rows of tasks that events changed. Events may be late and in any order."""
        changed = {seq: task for seq, task in after.items() if task != before[seq]}
        self._database.execute_many(
            "INSERT INTO state (seq, state, attempt, worker_id, available_at, tries_from, kind) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET state = excluded.state, attempt = excluded.attempt, worker_id = excluded.worker_id, "
            "available_at = excluded.available_at, tries_from = excluded.tries_from, kind = excluded.kind, "
            f"root_seq = iif(excluded.state IN ({State.FAILED}, {State.KILLED}), root_seq, NULL)",
            [
                (seq, int(task.state), task.attempt, task.worker_id, task.available_at, task.tries_from, task.kind)
                for seq, task in changed.items()
            ],
        )
        moves: defaultdict[tuple[Count, Count], list[int]] = defaultdict(list)
        for seq, task in changed.items():
            source = before[seq]
            moves[Count(source.state, source.kind), Count(task.state, task.kind)].append(seq)
        for (counted, target), seqs in moves.items():
            if target.state in ENDED and counted != target:
                self._end(counted, target, seqs, now)
            else:
                self._move(counted, target, len(seqs))
                if target.state is State.PENDING:
                    self._hold(seqs)
                elif target == KILLED != counted:
                    self._killed += seqs

    def keep_attempts(self, worker_id: int, finished: Sequence[Finished]) -> None:
        """Record attempts that ended, whatever their effect on the tasks."""
        self._with_parts += attempts.with_parts(finished)
        attempts.keep(self._database, worker_id, finished)
        counters.add_durations(self._database, [f.elapsed_seconds for f in finished if f.outcome == Outcome.SUCCEEDED])

    def count_duplicates(self, n: int) -> None:
        """Count attempts whose end changed nothing, because another one was faster or the lease was lost."""
        self._totals["duplicates"] += n

    def count_retries(self, finished: Sequence[Finished]) -> None:
        """Count attempts that are followed by another one, except interrupted ones."""
        self._totals["retries"] += sum(f.outcome != Outcome.INTERRUPTED for f in finished)

    def count_lost(self, n: int) -> None:
        """Count attempts that were lost with their workers."""
        self._totals["lost"] += n

    # --- requested by users ---

    def revive(self, state: State, kind: int, *, most: int, seq: int | None = None) -> int:
        """Make failed (of a kind) or killed tasks pending; their earlier attempts no longer count.

        Args:
            state: The state of the tasks.
            kind: The kind of their failure.
            most: The maximum number of tasks.
            seq: The number of the only task to change; None for any.

        Returns:
            The number of tasks.
        """
        which, parameters = ("", ()) if seq is None else ("AND seq = ?", (seq,))
        reuse = f"iif(reuse = {Reuse.PARTS}, reuse, {Reuse.AFTER_FAILURE})" if edges.exist(self._database) else "reuse"
        revived = self._database.rows(
            f"UPDATE state SET state = iif(missing > 0, {State.WAITING}, {State.PENDING}), kind = 0, available_at = 0, "
            f"tries_from = attempt, root_seq = NULL, reuse = {reuse} WHERE seq IN "
            f"(SELECT seq FROM state WHERE state = {state} AND kind = ? AND root_seq IS NULL {which} LIMIT ?) RETURNING seq, state",
            (kind, *parameters, most),
        )
        waiting = self._queue(Count(state, kind), revived)
        self._revived += [seq for seq, _ in revived]
        self._check_parents(waiting)
        if state is State.KILLED:
            self.forget_cancelled([seq for seq, _ in revived])
        return len(revived)

    def kill_fresh(self, step: int) -> int | None:
        """Kill tasks that were never leased, up to ``step`` numbers of one segment; return their number, None if no segment is left."""
        segment = segments.first_open(self._database)
        if segment is None:
            return None
        end = min(segment.next_seq + step, segment.last_seq + 1)
        n = self._kill(
            f"INSERT OR IGNORE INTO state (seq, state) SELECT seq, {State.KILLED} FROM task WHERE seq >= ? AND seq < ?",
            (segment.next_seq, end),
        )
        self._use_up(segment.first_seq, end, segment.last_seq)
        self._move(PENDING, KILLED, n)
        return n

    def kill_waiting(self) -> int:
        """Kill pending and waiting tasks with a row in ``state``; with a service queue, allow running ones no further attempt."""
        self._database.execute("DELETE FROM unsent")
        total = 0
        for state in (State.PENDING, State.WAITING):
            n = self._kill(f"UPDATE state SET state = {State.KILLED} WHERE state = {state}")
            self._move(Count(state), KILLED, n)
            total += n
        if self._is_remote():
            self.forget_messages()
            self._database.execute(f"UPDATE state SET available_at = {PURGED} WHERE state = {State.RUNNING}")
            self.stop_chains()
        return total

    def _kill(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run a statement that kills tasks; return their number."""
        if not edges.any_needs_end(self._database):
            return self._database.execute(statement, parameters).rowcount
        killed = self._database.rows(f"{statement} RETURNING seq", parameters)
        self._killed += [seq for (seq,) in killed]
        return len(killed)

    # --- to another queue ---

    def send_all_again(self) -> None:
        """Mark all pending tasks to be sent to a service queue, as if none had been sent."""
        self.start_epoch()
        self._database.execute("UPDATE segment SET sent_seq = 0")
        self._database.execute("DELETE FROM unsent")
        self._database.execute(f"INSERT INTO unsent (seq) SELECT seq FROM state WHERE state = {State.PENDING}")

    def send_again(self, seqs: Sequence[int]) -> None:
        """Mark those tasks that are pending to be sent, because their messages are gone."""
        pending = self._database.rows(
            f"SELECT seq FROM state WHERE seq IN (SELECT value FROM json_each(?)) AND state = {State.PENDING}",
            (as_json(seqs),),
        )
        self._send_later([seq for (seq,) in pending])

    def send_running_again(self) -> int:
        """Make the running tasks of a service queue pending and mark them to be sent again; return their number."""
        self._database.execute(
            f"INSERT OR IGNORE INTO unsent (seq) SELECT seq FROM state WHERE state = {State.RUNNING} AND available_at <> {PURGED}"
        )
        return self.put_back()

    def keep_all_here(self) -> None:
        """Add a row in ``state`` for each pending task, so that they are leased from the ledger: with a service, rows came in any order."""
        self.start_epoch()
        self._database.execute("DELETE FROM unsent")
        self._database.execute(_LEAVE_SEGMENTS)  # the cursor of a segment must not pass a task with a row
        self._database.execute("DELETE FROM segment")

    def leave_segments(self, first: int, last: int) -> None:
        """Add a row in ``state`` for each pending task of the segments that have tasks from ``first`` to ``last``."""
        for one in self._database.rows(
            "SELECT first_seq FROM segment WHERE first_seq <= ? AND last_seq >= ?", (last, first)
        ):
            if self._is_remote():
                self._database.execute(
                    "INSERT INTO unsent (seq) SELECT task.seq FROM segment JOIN task ON task.seq BETWEEN max(next_seq, sent_seq + 1) "
                    "AND last_seq LEFT JOIN state ON state.seq = task.seq WHERE state.seq IS NULL AND first_seq = ?",
                    one,
                )
            self._database.execute(f"{_LEAVE_SEGMENTS} AND first_seq = ?", one)
            self._database.execute("DELETE FROM segment WHERE first_seq = ?", one)

    def _use_up(self, first_seq: int, next_seq: int, last_seq: int) -> None:
        """Advance the cursor of a segment after its tasks got rows in ``state``; delete the segment at its end."""
        if next_seq <= last_seq:
            self._database.execute("UPDATE segment SET next_seq = ? WHERE first_seq = ?", (next_seq, first_seq))
        else:
            self._database.execute("DELETE FROM segment WHERE first_seq = ?", (first_seq,))


def kind_of_failure(finished: Finished) -> int:
    """Return the kind of a task's failure: a request for another attempt that is refused counts as an exception."""
    return int(Outcome.EXCEPTION if finished.outcome == Outcome.RETRY else finished.outcome)
