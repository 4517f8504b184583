"""One run from beginning to end: the scenario, then peace, then the checks."""

import heapq
import itertools
import os
import signal
import sqlite3
import time
from contextlib import suppress

from tests.chaos import checks, clock, faults
from tests.chaos.harness import TICK_SECONDS, Job, StuckError
from tests.chaos.scenario import Command, Drive, Insert, Jump, Move, Work

#: The next step is taken when nothing has begun for so long.
STILL_SECONDS = 0.35
#: What comes to its end at all does so much sooner, also on a machine with much else to do.
PATIENCE_SECONDS = 90.0
LAST_SECONDS = 20.0
#: Leases at a service run out after some seconds, several times over.
REMOTE_PATIENCE_SECONDS = 200.0
#: The processes that watch are then many, for long.
REMOTE_TICK_SECONDS = 0.02
#: For how long a process that is started in peace waits for the ledger's lock.
UNDISTURBED_PATIENCE_SECONDS = 60.0


class Run:
    """A scenario at work on a job."""

    def __init__(self, scenario, folder, service=None):
        self.scenario = scenario
        self.job = Job(
            folder,
            dict(scenario.settings),
            scenario.patience_seconds,
            own_disk=scenario.fills_disk,
            service=service,
            job_id=f"chaos-{scenario.seed}-{time.time_ns()}" if service else "chaos",
        )
        self.insertions = []
        """(table, process) for each that was started."""
        self.drives = []
        """Each process that made the graph."""
        self.evidence = None
        self._is_peace = False
        self._undo = []
        self._count = itertools.count()

    def play(self):
        """Do it all; return what is wrong afterwards."""
        job = self.job
        try:
            for index, table in enumerate(self.scenario.tables):
                job.write_table(index, table)
            self._disturb()
            self._make_peace()
            self._drain()
        except StuckError as stuck:
            return [*self._stacks(), str(stuck), *self._open_tasks()]
        self.evidence = checks.gather(job, self.scenario, self.insertions)
        return [*checks.complaints(self.evidence), *self._delete_queue()]

    # --- disturbing ---

    def _disturb(self):
        for step in self.scenario.steps:
            self._wait_for(step.begun)
            self._wait(step.delay_seconds)
            self._act(step.act)

    def _wait_for(self, begun):
        still_since, seen = time.monotonic(), -1
        while (now := self.job.begun()) < begun:
            if now != seen:
                still_since, seen = time.monotonic(), now
            if time.monotonic() - still_since > STILL_SECONDS:
                return
            self._tick()

    def _wait(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._tick()

    def _act(self, act):
        job = self.job
        match act:
            case Insert(table, killed_after):
                one = job.insert(table)
                self.insertions.append((table, one))
                if killed_after is not None:
                    self._later(killed_after, lambda: self._kill_inserter(one))
                elif not self.insertions[:-1] or table == 0:
                    self._until(lambda: one.exit_code is not None or one not in job.alive(), seconds=1.0)
            case Drive(killed_after):
                one = job.drive(self.scenario.graph)
                self.drives.append(one)
                if killed_after is not None:
                    self._later(killed_after, lambda: self._kill_inserter(one))
            case Work(settings, in_new_interpreter):
                job.work(settings, in_new_interpreter=in_new_interpreter)
            case Command(words):
                job.command(words)
            case Move(target, killed_after):
                self._move(target, killed_after)
            case _:
                undo = faults.begin(act, job)
                if undo is not None:
                    self._later(*undo)

    def _kill_inserter(self, one):
        if one.exit_code is None:
            one.was_hit = True
            self.job.note(f"kill -9 {one.what} {one.pid}")
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)

    def _move(self, target, killed_after):
        """Do as a user does: stop the workers, move the tasks, and write their new place into the settings."""
        job = self.job
        if not job.ledger_path.exists():
            return
        self._stop_workers()
        one = job.command(["move_queue", "--to", job.service.queue_url(job.job_id, target), "--yes"])
        if killed_after is not None:
            self._later(killed_after, lambda: self._kill_inserter(one))
        if not self._until(lambda: one.exit_code is not None, REMOTE_PATIENCE_SECONDS):
            raise StuckError(f"the mover {one.pid} does not come to its end:\n{one.text}")
        job.follow()

    def _stop_workers(self):
        for one in self.job.alive("worker"):
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGTERM)
        self._until(lambda: not self.job.alive("worker"), PATIENCE_SECONDS)

    def _later(self, seconds, action):
        heapq.heappush(self._undo, (time.monotonic() + seconds, next(self._count), action))

    def _tick(self):
        while self._undo and self._undo[0][0] <= time.monotonic():
            heapq.heappop(self._undo)[2]()
        self.job.reap()
        if self.scenario.is_monitored or self._is_peace:
            self.job.keep_monitored()
        time.sleep(TICK_SECONDS if self.job.service is None else REMOTE_TICK_SECONDS)

    def _until(self, condition, seconds):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._tick()
        return True

    # --- making peace ---

    def _make_peace(self):
        """Undo all that is still wrong. The clock keeps the latest time it has shown: what was put off until then has its turn."""
        while self._undo:
            self._tick()
        self._is_peace = True
        jumps = [step.act.offset_seconds for step in self.scenario.steps if isinstance(step.act, Jump)]
        clock.jump_to(max([0.0, *jumps]))
        self.job.patience_seconds = UNDISTURBED_PATIENCE_SECONDS
        self.job.note("peace")

    def _drain(self):
        job = self.job
        for kind in ("inserter", "command"):
            if not self._until(lambda kind=kind: not job.alive(kind), PATIENCE_SECONDS):
                raise StuckError(f"an {kind} does not come to its end: {[one.pid for one in job.alive(kind)]}")
        for table in self.scenario.repeated:
            if not any(index == table and one.exit_code == 0 for index, one in self.insertions):
                one = job.insert(table)
                self.insertions.append((table, one))
                if not self._until(lambda one=one: one.exit_code is not None, PATIENCE_SECONDS):
                    raise StuckError(f"the undisturbed inserter {one.pid} does not come to its end")
                if one.exit_code:
                    raise StuckError(f"the undisturbed inserter {one.pid} ended with {one.exit_code}:\n{one.text}")
        job.follow()
        if self.scenario.graph and not any(one.exit_code == 0 for one in self.drives):
            one = job.drive(self.scenario.graph)
            if not self._until(lambda: one.exit_code is not None, PATIENCE_SECONDS) or one.exit_code:
                raise StuckError(f"the undisturbed script {one.pid} ended with {one.exit_code}:\n{one.text}")
        if not job.is_local:
            self._drain_queue()
            return
        last = job.work()
        if not self._until(lambda: last.exit_code is not None, PATIENCE_SECONDS):
            raise StuckError(f"the undisturbed worker {last.pid} does not come to its end")
        if last.exit_code:
            raise StuckError(f"the undisturbed worker {last.pid} ended with {last.exit_code}:\n{last.text}")
        for one in job.alive("worker"):
            if one.keeps_waiting:
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGTERM)
        if not self._until(lambda: not job.alive(), PATIENCE_SECONDS):
            raise StuckError(f"these do not come to their end: {[one.pid for one in job.alive()]}")
        self._until(lambda: not job.reap(), LAST_SECONDS)

    def _drain_queue(self):
        """Have what is at the service worked off, and the monitor say that all is done."""
        job = self.job
        known = len(job.started)

        def is_complete():
            if not job.alive("worker"):
                job.work()
            monitors = [one for one in job.started[known:] if one.what == "monitor"]
            return any(one.exit_code == 0 for one in monitors)

        for one in job.alive("monitor"):  # it was there when things went wrong
            one.was_hit = True
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        if not self._until(is_complete, REMOTE_PATIENCE_SECONDS):
            raise StuckError("the job over the queue does not come to its end")
        job.ends_monitor = True
        for one in job.alive():
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGTERM)
        if not self._until(lambda: not job.alive(), PATIENCE_SECONDS):
            raise StuckError(f"these do not come to their end: {[one.pid for one in job.alive()]}")
        self._until(lambda: not job.reap(), LAST_SECONDS)

    def _open_tasks(self):
        with suppress(sqlite3.Error):
            for row in self.job.query("SELECT * FROM state WHERE state < 3 LIMIT 10"):
                yield f"row of state: {row}"

    def _delete_queue(self):
        if self.job.service is None:
            return
        one = self.job.command(["delete_queue", "--yes"])
        if not self._until(lambda: one.exit_code is not None, PATIENCE_SECONDS) or one.exit_code:
            yield f"the queues cannot be deleted:\n{one.text}"

    def _stacks(self):
        """Have what is stuck write its stack into its log."""
        left = self.job.left()
        for one in self.job.alive():
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGABRT)
        self._wait(0.5)
        return [f"still running: {left}"]

    # --- telling ---

    def story(self):
        """Tell what happened."""
        job = self.job
        lines = [self.scenario.text(), "", *(f"{at:8.3f}  {text}" for at, text in job.history)]
        for one in job.started:
            lines += ["", f"--- {one.what} {one.pid} ended with {one.exit_code}", one.text.rstrip()]
        return "\n".join(lines)
