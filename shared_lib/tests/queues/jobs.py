"""A job whose tasks travel by any queue: inserted from one ledger, worked on by workers in this process or in others."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

from taskfleet.ledger import counters, insertion, queries
from taskfleet.ledger.database import create, open_ledger
from taskfleet.messages.events import Worker
from taskfleet.queues import receiver, sender
from taskfleet.queues.addresses import is_remote, open_transport
from taskfleet.queues.control_channels import open_channel
from taskfleet.queues.embedded import EmbeddedQueue, retry_policy
from taskfleet.queues.job import JobQueues, record_queue, send_if_remote
from taskfleet.queues.remote import RemoteQueue
from taskfleet.queues.set_aside import set_aside_path
from taskfleet.settings import read_configuration
from taskfleet.tasks import Finished, Outcome
from taskfleet.watch.monitor import Monitor

PATIENCE_SECONDS = 40.0
NUMBERS = count(1)

receiver.POLL_SECONDS, sender.FLUSH_SECONDS, receiver.SIZE_SECONDS = 0.5, 0.2, 0.5  # or the tests take minutes
LEASE_SECONDS = 30.0


def configuration_of(folder, name, queue_url, settings):
    """Read settings as the commands do."""
    (folder / "config").mkdir(parents=True, exist_ok=True)
    wanted = {
        "JOB_ID": name,
        "QUEUE_URL": queue_url,
        "LEASE_SECONDS": LEASE_SECONDS,
        "RETRY_DELAY_SECONDS": 0,
    } | settings
    lines = [f"{key}={value}" for key, value in wanted.items()]
    (folder / "config" / "task.env").write_text("\n".join(lines) + "\n")
    return read_configuration(flags={}, env_file=None, environ={}, start=folder)


class Job:
    """One job; ``service`` is None for the queue in the ledger."""

    def __init__(self, service, name, folder, **settings):
        self.service = service
        self.name = name
        self.folder = folder
        self.queue_url = "ledger" if service is None else service.queue_url(name)
        self.configuration = configuration_of(folder, name, self.queue_url, settings)
        self.ahead_seconds = 0.0
        self.database = create(self.configuration.ledger_path, job_id=name, project=folder, now=time.time())
        record_queue(self.database, self.configuration)
        self.queues = None
        if self.is_remote:
            self.queues = JobQueues(self.configuration)
            self.queues.create()
        self._monitor = None
        self._workers = []
        self._processes = []

    @property
    def is_remote(self):
        return is_remote(self.queue_url)

    @property
    def now(self):
        return time.time() + self.ahead_seconds

    def insert(self, rows):
        """Insert tasks: their number, or from id to arguments."""
        if isinstance(rows, int):
            rows = {f"t{n}": {"n": n} for n in range(rows)}
        under_way = insertion.begin(self.database, source="test")
        data = [json.dumps(row, ensure_ascii=False) for row in rows.values()]
        under_way.add(list(rows), data, ids_are_derived=False, now=self.now)
        under_way.accept(self.now)
        send_if_remote(self.database, self.configuration)

    def worker(self, **settings):
        """Open the queue as a worker does."""
        configuration = replace(self.configuration, settings=replace(self.configuration.settings, **settings))
        open_queue = None if self.service is None else self.service.transport
        self._workers.append(worker_queue(configuration, f"worker-{next(NUMBERS)}", self.now, open_queue))
        return self._workers[-1]

    def worker_with(self, most):
        """Have a worker in another process lease so many tasks and hang; returns the process and what it leased."""
        return self._other_worker(most=most)

    def worker_until(self, task_id):
        """Have a worker in another process do one task after another and hang at that one; returns it and its lease, if it came."""
        return self._other_worker(until=task_id)

    def kill(self, process):
        """Kill a worker and have its leases run out."""
        process.kill()
        process.wait()
        if self.is_remote:
            time.sleep(
                receiver.POLL_SECONDS + 0.6
            )  # a request of its that waits at the service would be given the tasks
        self.advance(LEASE_SECONDS + 1)

    def _other_worker(self, **what):
        how = {"folder": str(self.folder), "ahead_seconds": self.ahead_seconds, **what}
        process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(how)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({} if self.service is None else self.service.environment()),
        )
        self._processes.append(process)
        return process, json.loads(process.stdout.readline())

    def lease(self, queue, number):
        """Lease until so many have come; returns the leases."""
        leases, deadline = [], time.monotonic() + PATIENCE_SECONDS
        while len(leases) < number:
            assert time.monotonic() < deadline, f"only {len(leases)} of {number} tasks were to be had"
            leases += queue.lease(number - len(leases), self.now)
            time.sleep(0.01)
        return leases

    def lease_later(self, queue, seconds):
        """Have so much time go by, and lease a task that is due then; again if none comes for a while.

        The clock may jump just between a receiver's finding the task early and its putting it off, which counts from then on.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self.advance(seconds)
            again_at = time.monotonic() + PATIENCE_SECONDS / 4
            while time.monotonic() < again_at:
                if leases := queue.lease(1, self.now):
                    return leases
                time.sleep(0.01)
        raise AssertionError(f"no task has come {seconds} s later")

    def work_off(self, queue, seconds=PATIENCE_SECONDS, outcome=Outcome.SUCCEEDED):
        """Run all pending tasks; return the leases."""
        leases, deadline = [], time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = queue.lease(100, self.now)
            queue.finish([ended(lease, outcome) for lease in found], self.now)
            leases += found
            if not found and not queue.count().leasable:
                break
            time.sleep(0.01)
        return leases

    def advance(self, seconds):
        """Have so much time go by, for leases and delays."""
        self.ahead_seconds += seconds
        if self.service is not None:
            self.service.advance(seconds)

    def settle(self):
        """Record the events reported by workers so far in the ledger."""
        if self.is_remote:
            if self._monitor is None:
                self._monitor = Monitor(self.database, self.configuration, self.queues)
            while self._monitor.step():
                pass

    def until(self, condition, what):
        """Settle until a condition holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.counts()}"
            self.settle()
            time.sleep(0.02)

    def counts(self):
        """The number of tasks in each state that has any."""
        return {state.word: n for state, n in counters.by_state(self.database).items() if n}

    def until_counts(self, **counts):
        self.until(lambda: self.counts() == counts, f"not {counts}")

    def tally(self, name):
        return counters.tallies(self.database)[name]

    def task(self, task_id):
        return queries.find_task(self.database, task_id)

    def check(self):
        """The ledger's identity: every task is in one state, and the counts add up."""
        rows = dict(self.database.rows("SELECT state, count(*) FROM state GROUP BY state"))
        total = self.database.value("SELECT count(*) FROM task")
        rows[1] = rows.get(1, 0) + total - sum(rows.values())
        counts = {int(state): n for state, n in counters.by_state(self.database).items() if n}
        assert {state: n for state, n in rows.items() if n} == counts

    def close(self):
        for process in self._processes:
            process.kill()
            process.communicate()
        for queue in self._workers:
            queue.close(self.now)
        self.settle()
        self.check()
        if self.queues is not None:
            for transport in self.queues.both:
                transport.delete()
            self.queues.__exit__(None, None, None)
        self.database.close()


def worker_queue(configuration, source, now, open_queue=None, most_message_bytes=None):
    """Open a job's queue as one worker, which ``open_queue`` opens by name if it is at a service."""
    settings = configuration.settings
    events = f"{settings.job_id}{'/' if settings.queue_url.startswith('postgres') else '-'}events"
    if open_queue is None and is_remote(settings.queue_url):

        def open_queue(name):
            return open_transport(settings.queue_url, settings.job_id, of_events=name == events)

    if not is_remote(settings.queue_url):
        database = open_ledger(configuration.ledger_path, job_id=settings.job_id)
        queue = EmbeddedQueue(database, settings, slots=2, now=now)
        close = queue.close
        queue.close = lambda now, reason="stopped": (close(now, reason), database.close())
        return queue
    return RemoteQueue(
        lambda _: open_queue(settings.job_id),
        lambda _: open_queue(events),
        job_id=settings.job_id,
        worker=Worker(source=f"{os.getpid()}/{source}", hostname="host", pid=os.getpid(), slots=2, started_at=now),
        policy=retry_policy(settings),
        lease_seconds=settings.lease_seconds,
        idle_seconds=1.0,
        most_message_bytes=most_message_bytes or 1 << 20,
        set_aside=set_aside_path(configuration.ledger_path),
        say=lambda text: print(text, file=sys.stderr),
        open_control=lambda outages: open_channel(configuration, outages),
    )


def ended(lease, outcome=Outcome.SUCCEEDED, *, result="null", seconds=0.5):
    """Give an attempt that ended so."""
    is_good = outcome is Outcome.SUCCEEDED
    error = None if is_good else outcome.name
    return Finished(lease.seq, lease.attempt, outcome, time.time(), seconds, result if is_good else None, error)


def main(how):
    """Be a worker in a process of its own, which hangs until it is killed."""
    configuration = read_configuration(flags={}, env_file=None, environ={}, start=Path(how["folder"]))

    def now():
        return time.time() + how["ahead_seconds"]

    queue = worker_queue(configuration, "other", now())
    if "most" in how:
        found = []
        while len(found) < how["most"]:
            found += queue.lease(how["most"] - len(found), now())
            time.sleep(0.01)
    else:
        found = _work_until(queue, how["until"], now)
    time.sleep(1.5)  # it tells what it has
    if found is None:
        queue.close(now())
    print(json.dumps(found), flush=True)
    sys.stdin.read()


def _work_until(queue, task_id, now):
    while True:
        leases = queue.lease(1, now())
        if leases and leases[0].task_id == task_id:
            return leases
        queue.finish([ended(lease) for lease in leases], now())
        if not leases and not queue.count().leasable:
            return None
        time.sleep(0.005)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
